"""Transformer blocks: shortcuts of the MLP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.parts.backbone import SpikingModel
from models.parts.blocks import Block

Build = Callable[..., SpikingModel]


@pytest.mark.parametrize("name", ["sdt_cifar", "maxformer_cifar"])
def test_an_mlp_as_wide_as_the_model_has_a_shortcut_over_each_layer(name: str, small_model: Build) -> None:
    block = next(module for module in small_model(name, mlp_ratio=1.0).modules() if isinstance(module, Block))
    x = torch.randn(2, 3, block.mlp.fc1.conv.in_channels, 4, 4)
    block.attn = torch.nn.Identity()
    block.mlp.fc1.neuron = block.mlp.fc2.neuron = torch.nn.Identity()  # stateless
    block.eval()
    with torch.no_grad():
        first = 2 * x + block.mlp.fc1(2 * x)
        expected = first + block.mlp.fc2(first)
        torch.testing.assert_close(block(x), expected)
