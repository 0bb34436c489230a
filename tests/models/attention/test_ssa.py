"""Attentions: their equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from models import ModelConfig, registry
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def built(small_config: Config, attn_layer: str, wiring: Wiring | None = None, **keys: Any) -> tuple[nn.Module, Tensor]:
    """Returns an attention in float64 whose layers fire, and spikes to feed it."""
    config = small_config("spikformer_cifar", attn_layer=attn_layer, embed_dim=16, **keys)
    (stage,) = stages(config)
    torch.manual_seed(0)
    build = registry.load(registry.ATTENTIONS[attn_layer])
    attention = build(config, neuron_factory(config), stage, wiring or Wiring()).double().eval()
    for module in attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.5, 1.5)
    spikes = (torch.rand(3, 2, stage.width, stage.grid, stage.grid, dtype=torch.float64) < 0.4).double()
    return attention, spikes


def test_ssa_gives_the_same_in_both_orders_of_its_product(small_config: Config) -> None:
    first, spikes = built(small_config, "SSA", Wiring(kv_first=True))
    second, _ = built(small_config, "SSA", Wiring(kv_first=False))
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        out = first(spikes)
        assert float(out.std()) > 0.0
        assert torch.equal(out, second(spikes))


def test_a_training_may_compute_the_product_of_ssa_in_the_cheaper_order(small_config: Config) -> None:
    attention, spikes = built(small_config, "SSA", Wiring(kv_first=False), num_heads=4)
    results = []
    for mode in ("published", "trained"):
        for module in attention.modules():
            module.training = mode == "trained" and not isinstance(module, nn.BatchNorm2d)
        calls: list[nn.Module] = []
        handle = attention.inner.register_forward_hook(lambda module, inputs, out, calls=calls: calls.append(module))
        attention.zero_grad()
        functional.reset_net(attention)
        out = attention(spikes)
        (out * torch.arange(out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        handle.remove()
        gradient = attention.get_parameter("v.conv.weight").grad
        assert gradient is not None
        results.append((len(calls), out.detach(), gradient.clone()))
    (published, wanted, wanted_grad), (trained, found, found_grad) = results
    assert (published, trained) == (1, 0)
    assert 0.0 < float(wanted.mean()) < 1.0
    assert torch.equal(found, wanted)
    torch.testing.assert_close(found_grad, wanted_grad, rtol=1e-10, atol=1e-10)


def test_ssa_equals_its_equation(small_config: Config) -> None:
    attention, spikes = built(small_config, "SSA", attn_scale=0.25)
    values: dict[str, Tensor] = {}
    for name in ("q", "k", "v", "attn_neuron"):
        attention.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: values.update({name: out, f"{name}.in": inputs[0]})
        )
    with torch.no_grad():
        attention(spikes)
    T, B, C, H, W = spikes.shape
    q, k, v = (values[name].reshape(T, B, 2, C // 2, H * W).transpose(3, 4) for name in "qkv")
    product = ((q @ k.transpose(3, 4)) @ v * 0.25).transpose(3, 4).reshape(T, B, C, H, W)
    assert torch.equal(values["attn_neuron.in"], product)


def test_sdsa_equals_its_equation_for_any_number_of_heads(small_config: Config) -> None:
    attention, spikes = built(small_config, "SDSA")
    values: dict[str, Tensor] = {}
    for name in ("q", "k", "v", "attn_neuron", "proj_conv"):
        attention.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: values.update({name: out, f"{name}.in": inputs[0]})
        )
    with torch.no_grad():
        out = attention(spikes)
    column = (values["k"] * values["v"]).sum((3, 4), keepdim=True)
    assert torch.equal(values["attn_neuron.in"], column)
    assert torch.equal(values["proj_conv.in"], values["q"] * values["attn_neuron"])
    other, _ = built(small_config, "SDSA", num_heads=4)
    other.load_state_dict(attention.state_dict())
    with torch.no_grad():
        assert torch.equal(other(spikes), out)


def test_random_attention_does_not_train_the_layers_of_q_and_k(small_config: Config) -> None:
    attention, spikes = built(small_config, "random")
    trained = {key for key, _ in attention.named_parameters()}
    assert not {key for key in trained if key.startswith(("q.conv", "k.conv"))}
    assert {"q.conv.weight", "k.conv.weight", "v.conv.weight"} <= attention.state_dict().keys()
    before = attention.q.conv.weight.clone()
    attention(spikes).sum().backward()
    torch.optim.SGD(attention.parameters(), lr=1.0).step()
    assert torch.equal(attention.q.conv.weight, before)


def test_no_attention_leaves_the_block_its_mlp(small_config: Config) -> None:
    attention, spikes = built(small_config, "identity")
    assert torch.equal(spikes + attention(spikes), spikes)
    assert not list(attention.parameters())


@pytest.mark.parametrize(("attn_scale", "value"), [(0.3, 0.3), ("head_dim", 1.0 / math.sqrt(8)), ("learnable", 0.125)])
def test_the_scale_is_a_number_or_follows_the_head_width_or_is_learned(
    attn_scale: Any, value: float, small_config: Config
) -> None:
    attention, _ = built(small_config, "SSA", attn_scale=attn_scale)
    assert float(torch.as_tensor(attention.scale).detach()) == pytest.approx(value)
    assert isinstance(attention.scale, nn.Parameter) is (attn_scale == "learnable")


def test_dilated_spikes_reach_their_eight_neighbours(small_config: Config) -> None:
    attention, _ = built(small_config, "SDSA", Wiring(dilated=True))
    one = torch.zeros(1, 1, 1, 5, 5)
    one[..., 2, 2] = 1.0
    assert float(attention.dilation(one).sum()) == 9.0
