"""Dual spike self-attention: its equation and its running firing rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import ModelConfig
from models.attention.dssa import DSSA
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def dssa(small_config: Config, patch: int = 2) -> tuple[DSSA, Tensor]:
    """Returns an attention of two heads in float64 on 4x4 tokens, and spikes to feed it."""
    config = small_config("spikingresformer_cifar")
    stage = replace(stages(config)[0], width=8, num_heads=2, grid=4, shrink=patch)
    torch.manual_seed(0)
    attention = DSSA(config, neuron_factory(config), stage, Wiring(proj_bias=False)).double()
    return attention, (torch.rand(3, 2, 8, 4, 4) < 0.4).double()


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_dssa_equals_its_equation(patch: int, small_config: Config) -> None:
    attention, s = dssa(small_config, patch)
    attention.eval()
    attention.rate_s += torch.tensor([0.3, 0.5]).view(1, 1, 2, 1, 1)
    attention.rate_a += torch.tensor([0.2, 0.1]).view(1, 1, 2, 1, 1)
    values: dict[str, Tensor] = {}
    for name in ("map_neuron", "attn_neuron", "bn"):
        attention.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: values.update({name: out, f"{name}.in": inputs[0]})
        )
    with torch.no_grad():
        attention.mix(s)
    d, patches = 4, (4 // patch) ** 2
    for head, rate_s, rate_a in ((0, 0.3, 0.2), (1, 0.5, 0.1)):
        tokens = s.flatten(3)[:, :, head * d : (head + 1) * d]
        y = values["bn"].flatten(3)[:, :, head * 2 * d : (head + 1) * 2 * d]
        y1, y2 = y[:, :, :d], y[:, :, d:]
        maps = torch.einsum("tbdm,tbdn->tbmn", y1, tokens) / (rate_s * d) ** 0.5
        assert torch.allclose(values["map_neuron.in"][:, :, head], maps, atol=1e-6)
        spikes = values["map_neuron"][:, :, head]
        mixed = torch.einsum("tbdm,tbmn->tbdn", y2, spikes) / (rate_a * patches) ** 0.5
        assert torch.allclose(values["attn_neuron.in"].flatten(3)[:, :, head * d : (head + 1) * d], mixed, atol=1e-6)


def test_firing_rates_start_at_the_first_batch_and_then_follow_slowly(small_config: Config) -> None:
    attention, s = dssa(small_config)
    rates = s.unflatten(2, (2, 4)).mean((0, 1, 3, 4, 5))
    attention.train()
    with torch.no_grad():
        attention.mix(s)
        assert torch.allclose(attention.rate_s.flatten(), rates)
        attention.mix(torch.ones_like(s))
        assert torch.allclose(attention.rate_s.flatten(), 0.999 * rates + 0.001)
        attention.eval()
        before = attention.rate_s.clone()
        attention.mix(s)
    assert torch.equal(attention.rate_s, before)
