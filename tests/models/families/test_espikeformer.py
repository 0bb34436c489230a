"""E-SpikeFormer: whole counts at the head, and integer models on binary spikes.

k of D spikes are k binary spikes over D virtual steps. For k/D, a layer that is linear in its spikes gives the mean of
its outputs over the virtual steps. The logits are therefore equal, and every weight meets zeros and ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.cost.counters import levels
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head, SpikeMatmul
from models.parts.pyramid import Pyramid

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

INTEGER = [
    ("espikeformer_t", {}),
    ("metaspikformer", {"node_type": "NILIFNode"}),
    ("maxformer_cifar", {"node_type": "NILIFNode", "attn_layer": "SSA"}),
    ("spikingresformer_cifar", {"node_type": "NILIFNode", "step": 2, "read_step": 2}),
]


def on_spikes(model: SpikingModel) -> SpikingModel:
    """Returns a copy of a model with normalised integer neurons that runs on binary spikes, in evaluation mode."""
    neurons = [module for module in model.modules() if levels(module)]
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


def test_a_count_becomes_as_many_spikes() -> None:
    x = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    spikes = to_spikes(x, 4)
    assert spikes.shape == (4, 5)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(spikes.mean(0), x)


@pytest.mark.parametrize(("name", "keys"), INTEGER)
def test_the_expanded_model_gives_the_same_logits_from_binary_spikes(
    name: str, keys: dict[str, Any], small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, **keys).double()
    x = pixels(model.config).double()
    firing(model, x)
    expanded = on_spikes(model)
    values_of = _watch(expanded)
    with torch.no_grad():
        assert torch.allclose(expanded(x), model(x), rtol=0.0, atol=1e-9)
    assert len(values_of) > 10
    assert all(values <= {0.0, 1.0} for values in values_of.values())


def _watch(model: nn.Module) -> dict[str, set[float]]:
    """Returns the values that each layer's weights meet, filled by the next forward passes."""
    values_of: dict[str, set[float]] = {}

    def save(name: str) -> Callable[..., None]:
        return lambda module, inputs: values_of.setdefault(name, set()).update(inputs[0].unique().tolist())

    for name, module in model.named_modules():
        if isinstance(module, LayerOnSpikes):
            module.layer.register_forward_pre_hook(save(name))
        if isinstance(module, ProductOnSpikes) and module.left:
            module.product.register_forward_pre_hook(save(name))
    return values_of


@pytest.mark.parametrize(("node_type", "gain"), [("NILIFNode", 4.0), ("ILIFNode", 1.0), ("LIFNode", 1.0)])
def test_the_head_reads_whole_counts(
    node_type: str, gain: float, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model("espikeformer_t", node_type=node_type)
    assert isinstance(model, Pyramid)
    x = pixels(model.config)
    firing(model, x)
    features: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    with torch.no_grad():
        model(x)
    counts = features[0] * model.head.gain
    assert model.head.gain == gain
    assert torch.equal(counts, counts.round())
    assert float(counts.max()) > 0.0
