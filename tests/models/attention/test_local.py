"""Local self-attention within dilated groups, and the local convolution block."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models import ConfigError, InfeasibleError, ModelConfig, check_feasible, registry
from models.attention.local import merge_groups, split_groups
from models.attention.ssa import SSA
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def built(small_config: Config, attn_layer: str) -> nn.Module:
    config = small_config("spikformer_cifar", attn_layer=attn_layer)
    (stage,) = stages(config)
    torch.manual_seed(0)
    attention = registry.load(registry.ATTENTIONS[attn_layer])(config, neuron_factory(config), stage, Wiring())
    for module in attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.5, 1.5)
    result: nn.Module = attention.double().eval()
    return result


def spikes(side: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(3, 2, 16, side, side, dtype=torch.float64, generator=generator) < 0.4).double()


def test_a_group_has_the_pixels_of_one_row_and_column_parity_and_groups_follow_their_image() -> None:
    x = torch.arange(2 * 3 * 5 * 4 * 6).view(2, 3, 5, 4, 6)
    groups = split_groups(x)
    assert groups.shape == (2, 12, 5, 2, 3)
    for image in range(3):
        for row in (0, 1):
            for column in (0, 1):
                assert torch.equal(groups[:, 4 * image + 2 * row + column], x[:, image, :, row::2, column::2])
    assert torch.equal(merge_groups(groups, like=x), x)


def test_local_attention_is_ssa_within_each_group(small_config: Config) -> None:
    local, whole = built(small_config, "LSSA"), built(small_config, "SSA")
    assert isinstance(whole, SSA)
    whole.load_state_dict(local.state_dict())
    x = spikes()
    with torch.no_grad():
        out = local(x)
        assert 0.0 < float(out.mean()) < 1.0
        for row in (0, 1):
            for column in (0, 1):
                whole_reset(whole)
                assert torch.equal(out[..., row::2, column::2], whole(x[..., row::2, column::2]))


def whole_reset(module: nn.Module) -> None:
    for part in module.modules():
        if hasattr(part, "reset"):
            part.reset()


def test_the_convolution_block_equals_its_equation(small_config: Config) -> None:
    block, x = built(small_config, "LocalConv"), spikes()
    with torch.no_grad():
        out = block(x)
        whole_reset(block)
        u = x + block.spread(x)
        assert torch.equal(out, u + block.reduce(block.depthwise(block.expand(u))))
    assert block.depthwise.conv.groups == block.depthwise.conv.in_channels == 64


def test_a_map_with_an_odd_side_is_refused_before_and_at_the_call(small_config: Config) -> None:
    with pytest.raises(InfeasibleError, match=r"must be even \(got 5, img_size=20, patch_size=4\)"):
        check_feasible(small_config("spikformer_cifar", attn_layer="LSSA", img_size=20))
    with pytest.raises(ConfigError, match=r"even sides \(got 5 x 5\)"):
        built(small_config, "LSSA")(spikes(5))
