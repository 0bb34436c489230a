"""Q-K attention, depthwise mixers and SDSA V3: their equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models import ModelConfig, registry
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def run_with_hooks(small_config: Config, attn_layer: str) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Returns an attention of two heads after a pass in float64, its input, and the inputs and outputs of its parts."""
    config = small_config("spikformer_cifar", attn_layer=attn_layer, attn_scale="head_dim")
    stage = replace(stages(config)[0], width=8, num_heads=2, grid=3)
    torch.manual_seed(0)
    build = registry.load(registry.ATTENTIONS[attn_layer])
    attention: nn.Module = build(config, neuron_factory(config), stage, Wiring(kv_first=False)).double().eval()
    values: dict[str, Tensor] = {}
    for name, module in attention.named_children():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.5, 1.5)
        module.register_forward_hook(
            lambda module, inputs, out, name=name: values.update({name: out, f"{name}.in": inputs[0]})
        )
    for name in "qkv":
        if hasattr(attention, name):
            nn.init.uniform_(attention.get_submodule(f"{name}.bn").bias, 0.0, 2.0)  # type: ignore[arg-type]
    spikes = (torch.rand(3, 2, 8, 3, 3) < 0.4).double()
    with torch.no_grad():
        attention(spikes)
    return attention, spikes, values


@pytest.mark.parametrize(("attn_layer", "axis"), [("QKTA", 3), ("QKCA", 4)])
def test_qk_attention_masks_k_by_the_sums_of_q(attn_layer: str, axis: int, small_config: Config) -> None:
    _, spikes, values = run_with_hooks(small_config, attn_layer)
    q, k = (values[name].flatten(3).unflatten(2, (2, 4)) for name in "qk")  # [T, B, H, d, N]
    sums = q.sum(axis, keepdim=True)
    sum_in, mask = (
        values[name].transpose(3, 4) if attn_layer == "QKTA" else values[name].reshape(sums.shape)
        for name in ("attn_neuron.in", "attn_neuron")
    )
    assert torch.equal(sum_in, sums)
    expected = (k * mask).reshape(spikes.shape)
    assert 0.0 < float(expected.mean()) < float(k.mean())
    assert torch.equal(values["proj_conv.in"], expected)


@pytest.mark.parametrize(("attn_layer", "kernel"), [("DWC3", 3), ("DWC5", 5), ("DWC7", 7)])
def test_a_depthwise_mixer_has_one_kernel_per_channel(attn_layer: str, kernel: int, small_config: Config) -> None:
    attention, _, _ = run_with_hooks(small_config, attn_layer)
    conv = attention.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (8, 1, kernel, kernel)


def test_sdsa_v3_has_a_wide_v_and_twice_the_scale(small_config: Config) -> None:
    _, spikes, values = run_with_hooks(small_config, "SDSA_v3")
    q, k = (values[name].flatten(3).unflatten(2, (2, 4)) for name in "qk")
    v = values["v"].flatten(3).unflatten(2, (2, 16))
    mixed = torch.einsum("tbhdn,tbhdm,tbhem->tbhen", q, k, v) * 2 * 4**-0.5
    assert torch.allclose(values["attn_neuron.in"], mixed.reshape(3, 2, 32, *spikes.shape[3:]))
