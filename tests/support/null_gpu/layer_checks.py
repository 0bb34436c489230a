"""Checks of single models and layers on the null GPU: dtypes under autocast, launches, graphs, collectives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import HashStore

from benchmarks.variants import make_step
from config.errors import ConfigError
from models import create_model, registry
from models.cost.counters import levels
from models.fused.model import FusedModel
from models.parts.layers import BatchNorm, Conv
from tests.support.null_gpu import counters
from tests.support.small_models import FAMILIES, shrink
from trainers.diagnostics.probe import forward_hooks
from trainers.optimization.gpu_step import capture_stream

Findings = dict[str, Any]
BATCH = 2
OTHER_KEYS: dict[str, dict[str, Any]] = {
    "learned positions": {"pos_layer": "learned"},
    "learned scale": {"attn_scale": "learnable"},
    "selected tokens": {"token_keep": 0.5},
    "quantised weights": {"quant_bits": 4},
    "rate coding": {"encoding": "rate"},
}
"""Keys of Spikformer that add layers of their own."""


def neurons() -> Findings:
    """A small model with each kind of neuron: a step's launches and waits, outputs' dtypes, and its capture."""
    return {node_type: _step({"node_type": node_type}) for node_type in registry.NEURONS}


def _step(keys: dict[str, Any]) -> Findings:
    model = create_model({**shrink("spikformer_cifar"), **keys}).cuda().train()
    step = make_step(model, _images(model), torch.zeros(BATCH, dtype=torch.long).cuda(), torch.bfloat16, fused=True)
    step()
    step()
    with _widened(model) as widened:
        counters.reset()
        step()
        eager = counters.read()
    graph = torch.cuda.CUDAGraph()
    counters.reset()
    with torch.cuda.graph(graph, stream=capture_stream(torch.device("cuda", 0))):
        step()
    graph.replay()
    graphed = counters.read()
    return {
        "launches": eager["launches"],
        "syncs": eager["syncs"],
        "widened": widened,
        "refused": graphed["refused_in_capture"],
        "graph_launches": graphed["graph_launches"],
    }


def _images(model: Any) -> Tensor:
    config = model.config
    frames = (config.step,) if config.in_channels == 2 else ()
    return torch.zeros(BATCH, *frames, config.in_channels, config.img_size, config.img_size, device="cuda")


@contextmanager
def _widened(model: nn.Module) -> Iterator[list[str]]:
    """Yields the list of the neuron layers whose output is not in half precision, filled in a forward pass inside."""
    found: list[str] = []

    def collect(name: str, module: nn.Module, output: Tensor) -> None:
        if output.dtype != torch.bfloat16:
            found.append(f"{name} {output.dtype}")

    layers = {name: module for name, module in model.named_modules() if levels(module)}
    with forward_hooks(layers, collect):
        yield found


def half_precision() -> Findings:
    """Neuron layers that are in float32 under autocast, in each family, in two models as one, and with other keys."""
    found: Findings = {}
    for name in FAMILIES:
        models = [create_model(shrink(name)).cuda().train() for _ in range(2)]
        found[name] = _layers_in_float32(models[0], models[0], _images(models[0]))
        try:
            fused = FusedModel(models).train()
        except ConfigError:
            continue
        found[f"{name} fused"] = _layers_in_float32(fused, fused.body, [_images(models[0])] * 2)
    for name, keys in OTHER_KEYS.items():
        model = create_model({**shrink("spikformer_cifar"), **keys}).cuda().train()
        found[name] = _layers_in_float32(model, model, _images(model))
    return found


def _layers_in_float32(model: nn.Module, body: nn.Module, x: Any) -> list[str]:
    with torch.autocast("cuda", torch.bfloat16), _widened(body) as found:
        model(x)
    return found


def fused_convolutions() -> Findings:
    """Convolutions that cuDNN computes in a forward pass of eight models as one, and those with more than one pixel."""
    models = [create_model(shrink("spikformer_cifar")).cuda().eval() for _ in range(8)]
    fused, images = FusedModel(models).eval(), [_images(models[0])] * 8
    sizes = [module.kernel_size for module in models[0].modules() if isinstance(module, Conv)]
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        fused(images)
        counters.reset()
        fused(images)
    return {
        "convolutions": len(sizes),
        "spatial": sum(size != (1, 1) for size in sizes),
        "by_cudnn": sum(count for name, count in counters.names().items() if name.startswith("cudnn")),
    }


def shared_norms() -> Findings:
    """Collectives and waits of a step whose batch norms are shared, among one worker, and the number of norms."""
    from trainers.distributed.data_parallel import synchronized  # imports Ray, which the GPU benchmark does without

    distributed.init_process_group("nccl", store=HashStore(), rank=0, world_size=1)
    model = create_model(shrink("spikformer_cifar")).cuda().train()
    step = make_step(model, _images(model), torch.zeros(BATCH, dtype=torch.long).cuda(), torch.bfloat16, fused=True)
    with synchronized(model):
        step()
        counters.reset()
        step()
        found = counters.read()
    distributed.destroy_process_group()
    norms = sum(isinstance(module, BatchNorm) for module in model.modules())
    return {"collectives": found["collectives"], "syncs": found["syncs"], "norms": norms}
