"""Meta-SpikeFormer: the head for distillation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.parts.backbone import SpikingModel
from models.parts.pyramid import Pyramid

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]


def test_with_a_second_head_the_output_is_the_mean_of_both(small_model: Build, pixels: Pixels) -> None:
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
