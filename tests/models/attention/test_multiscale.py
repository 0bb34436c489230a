"""Multi-scale spiking attention: its equation, its line of tokens, its counts, gradients of plain neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from models import ModelConfig, registry
from models.attention.multiscale import MSSA
from models.cost.meter import Meter
from models.neurons.nodes import neuron_factory
from models.parts.backbone import SpikingModel
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

NAMES = ["MSSA", "MSSA_pointwise"]


def built(small_config: Config, attn_layer: str) -> tuple[MSSA, Tensor]:
    """Returns an attention in float64 whose layers fire, and spikes to feed it."""
    config = small_config("spikformer_cifar", attn_layer=attn_layer, embed_dim=16, attn_threshold=1.0)
    (stage,) = stages(config)
    torch.manual_seed(0)
    attention = registry.load(registry.ATTENTIONS[attn_layer])(config, neuron_factory(config), stage, Wiring())
    for module in attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 3.0)
            nn.init.uniform_(module.bias, 0.5, 1.5)
    spikes = (torch.rand(3, 2, 16, 4, 4, dtype=torch.float64) < 0.4).double()
    return attention.double().eval(), spikes


def lif(x: Tensor) -> Tensor:
    """The neurons of SpikingJelly, step by step."""
    node = neuron.LIFNode(2.0, True, 1.0, 0.0, surrogate.Sigmoid(alpha=4.0), detach_reset=True, step_mode="s")
    return torch.stack([node(now) for now in x])


def plain(attention: MSSA, x: Tensor) -> Tensor:
    """Returns the output of the equation on tokens in a line, head by head."""
    T, B, C, H, W = x.shape
    size = attention.p.conv.weight.shape[3]

    def branch(unit: Any, padding: int = 0) -> Tensor:
        line = nn.functional.conv1d(x.reshape(T * B, C, H * W), unit.conv.weight.squeeze(2), padding=padding)
        return lif(unit.bn(line.view(T, B, C, 1, H * W))).squeeze(3)

    q, k, p = branch(attention.q), branch(attention.k), branch(attention.p, size // 2)
    masked = []
    for head in range(2):
        own = slice(head * C // 2, (head + 1) * C // 2)
        summed = p[:, :, own] if size == 1 else p[:, :, own].sum(2, keepdim=True)
        masked.append(k[:, :, own] * lif(q[:, :, own].sum(2, keepdim=True) + summed))
    return lif(attention.proj_bn(attention.proj_conv(torch.cat(masked, 2).view(x.shape))))


@pytest.mark.parametrize("attn_layer", NAMES)
def test_outputs_and_gradients_equal_those_of_plain_spikingjelly_neurons(small_config: Config, attn_layer: str) -> None:
    attention, spikes = built(small_config, attn_layer)
    found = []
    for forward in (attention, lambda x: plain(attention, x)):
        x = spikes.clone().requires_grad_()
        out = forward(x)
        attention.zero_grad()
        (out * torch.linspace(-1.0, 1.0, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        functional.reset_net(attention)
        gradients = {name: p.grad.clone() for name, p in attention.named_parameters() if p.grad is not None}
        found.append((out.detach(), {**gradients, "x": x.grad}))
    (out, gradients), (expected, expected_gradients) = found
    assert 0.0 < float(out.mean()) < 1.0
    assert torch.equal(out, expected)
    assert gradients.keys() == expected_gradients.keys() == {*dict(attention.named_parameters()), "x"}
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected_gradients[name], rtol=1e-9, atol=1e-9), name


def test_the_third_branch_reaches_from_the_end_of_a_row_to_the_start_of_the_next(small_config: Config) -> None:
    attention, _ = built(small_config, "MSSA")
    inputs: list[Tensor] = []
    attention.p.conv.register_forward_hook(lambda module, given, out: inputs.append(out))
    one, none = torch.zeros(3, 1, 16, 4, 4, dtype=torch.float64), torch.zeros(3, 1, 16, 4, 4, dtype=torch.float64)
    one[..., 1, 3] = 1.0  # the last token of the second row
    with torch.no_grad():
        for x in (one, none):
            attention(x)
            functional.reset_net(attention)
    changed = (inputs[0] != inputs[1]).any(2).flatten()[:16].nonzero().flatten().tolist()
    assert changed == [6, 7, 8]


@pytest.mark.parametrize("name", ["msvit_cifar", "spikformer_cifar", "sdt_cifar", "espikeformer_l"])
def test_each_spike_of_q_p_and_k_counts_once_in_any_family(
    name: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, attn_layer="MSSA").double()
    x = pixels(model.config).double()
    firing(model, x)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    rows = {row["name"]: row for row in meter.by_layer(2)}
    blocks = [key.removesuffix(".sum_p") for key in rows if key.endswith(".sum_p")]
    assert blocks
    for block in blocks:
        for part, counted in (("q", "sum"), ("p", "sum_p"), ("k", "mask")):
            assert rows[f"{block}.{counted}"]["synops"] == pytest.approx(rows[f"{block}.{part}.neuron"]["spikes"])
