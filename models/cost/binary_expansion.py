"""From integers to spikes: a model trained on counts k of D runs on k binary spikes over D virtual steps.

A layer that is linear in its spikes gives for k/D the mean over the virtual steps of what it gives for each step's
spikes, so the outputs are equal and every weight meets zeros and ones only.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.cost.counters import levels, spikes_per_value
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head, SpikeMask, SpikeMatmul


def on_spikes(model: SpikingModel) -> SpikingModel:
    """Returns a copy of a model with normalised integer neurons that runs on binary spikes, in evaluation mode."""
    config = model.config
    neurons = [module for module in model.modules() if levels(module)]
    if config.residual != "ms" or any(levels(neuron) != spikes_per_value(neuron) for neuron in neurons):
        raise ConfigError(
            "expansion into spikes needs layers that see k/D: node_type: NILIFNode and residual: ms"
            f" (got node_type={config.node_type}, residual={config.residual})"
        )
    if levels(neurons[0]) > 1 and any(isinstance(module, SpikeMask) for module in model.modules()):
        raise ConfigError(f"a masked count is no count of D: expansion needs SSA's relatives (got {config.attn_layer})")
    expanded = copy.deepcopy(model).eval()
    _wrap(expanded, levels(neurons[0]))
    return expanded


def to_spikes(x: Tensor, levels: int) -> Tensor:
    """Returns the spikes of the values k/D, [D, ...]: of the D virtual steps the first k have one."""
    steps = torch.arange(levels, device=x.device).view(-1, *(1 for _ in x.shape))
    return ((x * levels).round() > steps).to(x)


def _wrap(module: nn.Module, levels: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv | Head) and child.fed == "spikes":
            setattr(module, name, LayerOnSpikes(child, levels))
        elif isinstance(child, SpikeMatmul):
            setattr(module, name, ProductOnSpikes(child, levels))
        else:
            _wrap(child, levels)


class LayerOnSpikes(nn.Module):
    """A convolution or head that runs on each virtual step's spikes; the steps' mean is its output."""

    def __init__(self, layer: Conv | Head, levels: int) -> None:
        super().__init__()
        self.layer, self.levels_in = layer, levels

    def forward(self, x: Tensor) -> Tensor:
        spikes = to_spikes(x, self.levels_in)
        out: Tensor = self.layer(spikes.flatten(0, 1))
        return out.view(*spikes.shape[:2], *out.shape[1:]).mean(0)


class ProductOnSpikes(nn.Module):
    """A product whose spike operands come step by step: every virtual step of one meets every one of the other."""

    def __init__(self, product: SpikeMatmul, levels: int) -> None:
        super().__init__()
        self.product, self.levels_in = product, levels
        self.left, self.right = (kind == "spikes" for kind in product.kinds)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left = to_spikes(a, self.levels_in) if self.left else a.unsqueeze(0)
        right = to_spikes(b, self.levels_in) if self.right else b.unsqueeze(0)
        out: Tensor = self.product(left.unsqueeze(1), right.unsqueeze(0))
        return out.mean((0, 1))
