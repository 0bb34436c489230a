"""Spike-driven Transformer V2 and V3: heads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.parts.backbone import SpikingModel
from models.parts.pyramid import Pyramid

Build = Callable[..., SpikingModel]
Draw = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


def test_with_a_second_head_the_output_is_the_mean_of_both(small_model: Build, pixels: Draw) -> None:
    model = small_model("metaspikformer", kd_head=True)
    assert isinstance(model, Pyramid)
    assert model.head_kd is not None
    heads: list[Tensor] = []
    for head in (model.head, model.head_kd):
        head.register_forward_hook(lambda module, inputs, out: heads.append(out))
    x = pixels(model.config)
    out = model(x)
    assert torch.allclose(out, ((heads[0] + heads[1]) / 2).mean(0))
    out.sum().backward()
    assert model.head_kd.weight.grad is not None


@pytest.mark.parametrize(("node_type", "gain"), [("NILIFNode", 4.0), ("ILIFNode", 1.0), ("LIFNode", 1.0)])
def test_the_head_of_v3_sees_whole_counts(
    node_type: str, gain: float, small_model: Build, pixels: Draw, firing: Firing
) -> None:
    model = small_model("espikeformer_t", node_type=node_type)
    assert isinstance(model, Pyramid)
    x = pixels(model.config)
    firing(model, x)
    seen: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(x)
    counts = seen[0] * model.head.gain
    assert model.head.gain == gain
    assert torch.equal(counts, counts.round())
    assert float(counts.max()) > 0.0
