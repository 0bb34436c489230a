"""One model with different neurons: ours, SpikingJelly's LIFNode, and ReLU as the upper limit of speed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from models.cost.counters import levels
from models.neurons.compiled import compile_neurons
from models.parts.backbone import SpikingModel

Make = Callable[[Any], nn.Module]


def spikingjelly_node(layer: Any) -> nn.Module:
    """Returns SpikingJelly's LIFNode with the values of one of our layers."""
    node: nn.Module = neuron.LIFNode(
        layer.tau, True, layer.v_threshold, 0.0, layer.surrogate_function, detach_reset=True, step_mode="m"
    )
    return node


VARIANTS: dict[str, Make] = {
    "ours": lambda layer: layer,
    "spikingjelly": spikingjelly_node,
    "relu": lambda layer: nn.ReLU(),
}


def variant(model: SpikingModel, name: str, *, compiled: bool) -> SpikingModel:
    """Returns a copy of a model with a variant's neurons, optionally with each layer of neurons compiled."""
    changed = replace_neurons(model, VARIANTS[name])
    if compiled:
        compile_neurons(changed)
        for module in changed.modules():
            if isinstance(module, nn.ReLU) or type(module) is neuron.LIFNode:
                module.compile(dynamic=True)
    return changed


def replace_neurons(model: SpikingModel, make: Make) -> SpikingModel:
    """Returns a copy of a model with other layers of neurons, made from its own ones."""
    changed = copy.deepcopy(model)
    _replace(changed, make)
    return changed


def _replace(module: nn.Module, make: Make) -> None:
    for name, child in module.named_children():
        if levels(child):
            setattr(module, name, make(child))
        else:
            _replace(child, make)


def make_step(
    model: SpikingModel, x: Tensor, labels: Tensor, dtype: torch.dtype | None = None, *, fused: bool = False
) -> Callable[[], Tensor]:
    """Returns one training step on a fixed batch: forward, backward, AdamW; under autocast if a dtype is given.

    With `fused`, AdamW has one kernel on the GPU, and the step can be captured as a CUDA graph.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused or None, capturable=fused)
    loss_of = nn.CrossEntropyLoss()

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            loss: Tensor = loss_of(model(x).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        return loss.detach()

    return step
