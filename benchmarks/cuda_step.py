"""Training step on a GPU: time, memory, and the share of the GPU's matrix multiplication speed.

Spikformer-4-384 at 32x32, T = 4, batch 128, with bf16 autocast and in fp32. Variants: our neurons, SpikingJelly's
LIFNode as its documentation uses it, the same in float32 (where its Triton kernels run) between layers in bf16, and
ReLU. `step_vs_spikingjelly` compares with the fastest of SpikingJelly's runs in any precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.variants import VARIANTS, make_step, replace_neurons, spikingjelly_node, variant
from models import create_model
from models.parts.backbone import SpikingModel

BATCH = 128
MATRIX = 8192
WARM_UP = 3
KEYS = {"model": "spikformer_cifar", "step": 4, "embed_dim": 384, "num_heads": 12, "depths": 4, "num_classes": 10}
PRECISIONS: dict[str, torch.dtype | None] = {"bf16": torch.bfloat16, "fp32": None}


class Float32Node(nn.Module):
    """SpikingJelly's LIFNode on currents in float32, where it has fast kernels on a GPU."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.node = spikingjelly_node(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.node(x.float())
        return out.to(x.dtype)


def measure(rounds: int) -> dict[str, Any]:
    """Returns the figures of each precision, and our speed over the fastest of SpikingJelly's."""
    found: dict[str, Any] = {name: _measure(dtype, rounds) for name, dtype in PRECISIONS.items()}
    theirs = [
        figures["images_per_s"]
        for variants in found.values()
        for name, figures in variants.items()
        if name.startswith("spikingjelly")
    ]
    found["step_vs_spikingjelly"] = found["bf16"]["ours"]["images_per_s"] / max(theirs)
    found["fraction_of_relu_limit"] = found["bf16"]["ours"]["images_per_s"] / found["bf16"]["relu"]["images_per_s"]
    return found


def models(dtype: torch.dtype | None) -> Iterator[tuple[str, SpikingModel]]:
    """Yields the variants of the model on the GPU."""
    torch.manual_seed(0)
    model = create_model({**KEYS, "in_channels": 3, "img_size": 32, "patch_size": 4})
    for name in VARIANTS:
        yield name, variant(model, name, compiled=False).cuda()
    if dtype is not None:
        yield "spikingjelly float32", replace_neurons(model, Float32Node).cuda()


def batch() -> tuple[Tensor, Tensor]:
    """Returns random images and labels on the GPU."""
    return torch.randn(BATCH, 3, 32, 32, device="cuda"), torch.randint(10, (BATCH,), device="cuda")


def _measure(dtype: torch.dtype | None, rounds: int) -> dict[str, dict[str, float]]:
    x, labels = batch()
    limit = _flops_per_s(dtype or torch.float32)
    found: dict[str, dict[str, float]] = {}
    for name, model in models(dtype):
        step = make_step(model, x, labels, dtype)
        with FlopCounterMode(display=False) as counter:
            step()
        torch.cuda.reset_peak_memory_stats()
        taken = seconds(step, rounds)
        found[name] = {
            "images_per_s": BATCH / taken,
            "peak_mem_gib": torch.cuda.max_memory_allocated() / 2**30,
            "share_of_matmul_limit": counter.get_total_flops() / taken / limit,
        }
    return found


def _flops_per_s(dtype: torch.dtype) -> float:
    """Returns the speed of a large matrix multiplication, the limit of a training step; TF32 as in convolutions."""
    a = torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype)
    with _tf32_products():
        return 2.0 * MATRIX**3 / seconds(lambda: a @ a, 10)


@contextmanager
def _tf32_products() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Returns the median time of some work, with the host waiting for its end each time."""
    taken = []
    for _ in range(WARM_UP + rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return median(taken[WARM_UP:])


def seconds_without_waiting(work: Callable[[], object], rounds: int) -> float:
    """Returns the time of some work in a loop whose end alone the host waits for, as in an epoch."""
    for _ in range(WARM_UP):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / rounds
