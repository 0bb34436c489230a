"""Q-K attention, depthwise mixers and the layers of SDSA V2 and V3: their equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import ModelConfig, registry
from models.neurons.nodes import neuron_factory
from models.parts.attention_rep import RepConv
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def watched(small_config: Config, attn_layer: str) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Returns an attention of two heads after a pass in float64, its input spikes, and what its parts got and gave."""
    config = small_config("spikformer_cifar", attn_layer=attn_layer, attn_scale="head_dim")
    stage = replace(stages(config)[0], width=8, num_heads=2, grid=3)
    torch.manual_seed(0)
    build = registry.load(registry.ATTENTIONS[attn_layer])
    attention: nn.Module = build(config, neuron_factory(config), stage, Wiring(kv_first=False)).double().eval()
    seen: dict[str, Tensor] = {}
    for name, module in attention.named_children():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.5, 1.5)
        module.register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: out, f"{name}.in": inputs[0]})
        )
    for name in "qkv":
        if hasattr(attention, name):
            nn.init.uniform_(attention.get_submodule(f"{name}.bn").bias, 0.0, 2.0)  # type: ignore[arg-type]
    spikes = (torch.rand(3, 2, 8, 3, 3) < 0.4).double()
    with torch.no_grad():
        attention(spikes)
    return attention, spikes, seen


@pytest.mark.parametrize(("attn_layer", "axis"), [("QKTA", 3), ("QKCA", 4)])
def test_qk_attention_masks_k_by_the_sums_of_q(attn_layer: str, axis: int, small_config: Config) -> None:
    _, spikes, seen = watched(small_config, attn_layer)
    q, k = (seen[name].flatten(3).unflatten(2, (2, 4)) for name in "qk")  # [T, B, H, d, N]
    sums = q.sum(axis, keepdim=True)
    got, gave = (
        seen[name].transpose(3, 4) if attn_layer == "QKTA" else seen[name].reshape(sums.shape)
        for name in ("attn_neuron.in", "attn_neuron")
    )
    assert torch.equal(got, sums)
    expected = (k * gave).reshape(spikes.shape)
    assert 0.0 < float(expected.mean()) < float(k.mean())
    assert torch.equal(seen["proj_conv.in"], expected)


@pytest.mark.parametrize(("attn_layer", "kernel"), [("DWC3", 3), ("DWC5", 5), ("DWC7", 7)])
def test_a_depthwise_mixer_is_one_kernel_a_channel(attn_layer: str, kernel: int, small_config: Config) -> None:
    attention, _, _ = watched(small_config, attn_layer)
    conv = attention.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (8, 1, kernel, kernel)


def test_sdsa_v3_has_a_wide_v_and_twice_the_scale(small_config: Config) -> None:
    _, spikes, seen = watched(small_config, "SDSA_v3")
    q, k = (seen[name].flatten(3).unflatten(2, (2, 4)) for name in "qk")
    v = seen["v"].flatten(3).unflatten(2, (2, 16))
    mixed = torch.einsum("tbhdn,tbhdm,tbhem->tbhen", q, k, v) * 2 * 4**-0.5
    assert torch.allclose(seen["attn_neuron.in"], mixed.reshape(3, 2, 32, *spikes.shape[3:]))


def test_repconv_is_one_convolution_where_it_is_merged() -> None:
    torch.manual_seed(0)
    stack = RepConv(6).double().eval()
    for module in stack.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_mean, -1.0, 1.0)  # type: ignore[arg-type]
    x = torch.randn(2, 1, 6, 5, 5).double()
    with torch.no_grad():
        pulse = torch.zeros(6, 1, 6, 5, 5).double()
        pulse[range(6), 0, range(6), 2, 2] = 1.0
        zero = stack(torch.zeros(1, 1, 6, 5, 5).double())
        kernel = (stack(pulse) - zero)[:, 0, :, 1:4, 1:4].flip(2, 3).transpose(0, 1)
        merged = functional.conv2d(x[:, 0], kernel, padding=1) + zero[:, 0]
        assert torch.allclose(stack(x)[:, 0], merged)
        assert torch.allclose(zero, zero[..., :1, :1].expand_as(zero))
