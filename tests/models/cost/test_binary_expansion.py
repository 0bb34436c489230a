"""Expansion of integer models into spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ConfigError
from models.cost.binary_expansion import LayerOnSpikes, ProductOnSpikes, on_spikes, to_spikes
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Draw = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

INTEGER = [
    ("espikeformer_t", {}),
    ("metaspikformer", {"node_type": "NILIFNode"}),
    ("maxformer_cifar", {"node_type": "NILIFNode", "attn_layer": "SSA"}),
    ("spikingresformer_cifar", {"node_type": "NILIFNode", "step": 2, "read_step": 2}),
]


def test_a_count_becomes_as_many_spikes() -> None:
    x = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    spikes = to_spikes(x, 4)
    assert spikes.shape == (4, 5)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(spikes.mean(0), x)


@pytest.mark.parametrize(("name", "keys"), INTEGER)
def test_the_expanded_model_gives_the_same_logits_from_binary_spikes(
    name: str, keys: dict[str, Any], small_model: Build, pixels: Draw, firing: Firing
) -> None:
    model = small_model(name, **keys).double()
    x = pixels(model.config).double()
    firing(model, x)
    expanded = on_spikes(model)
    seen = _watch(expanded)
    with torch.no_grad():
        assert torch.allclose(expanded(x), model(x), rtol=0.0, atol=1e-9)
    assert len(seen) > 10
    assert all(values <= {0.0, 1.0} for values in seen.values())


def _watch(model: nn.Module) -> dict[str, set[float]]:
    """Notes the values that each layer's weights meet."""
    seen: dict[str, set[float]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs: seen.setdefault(name, set()).update(inputs[0].unique().tolist())

    for name, module in model.named_modules():
        if isinstance(module, LayerOnSpikes):
            module.layer.register_forward_pre_hook(note(name))
        if isinstance(module, ProductOnSpikes) and module.left:
            module.product.register_forward_pre_hook(note(name))
    return seen


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"node_type": "ILIFNode"}, "node_type: NILIFNode"),
        ({"residual": "sew"}, "residual: ms"),
        ({"attn_layer": "QKTA"}, "a masked count is no count"),
    ],
)
def test_what_cannot_be_expanded_is_refused_with_the_rule(keys: dict[str, Any], rule: str, small_model: Build) -> None:
    with pytest.raises(ConfigError, match=rule):
        on_spikes(small_model("espikeformer_t", **keys))
