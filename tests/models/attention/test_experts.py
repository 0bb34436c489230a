"""Attention and MLP of experts: their equations, both routers, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import InfeasibleError, ModelConfig, check_feasible
from models.attention.experts import EMSA, EMSP
from models.cost.meter import Meter
from models.neurons.nodes import neuron_factory
from models.parts.backbone import SpikingModel
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


def built(small_config: Config, part: type[Any], wiring: Wiring | None = None, **keys: Any) -> tuple[Any, Tensor]:
    """Returns an attention or an MLP in float64 whose layers fire, and spikes to feed it."""
    config = small_config("spikformer_cifar", attn_layer="EMSA", expert_dim=5, num_expert=3, **keys)
    (stage,) = stages(config)
    torch.manual_seed(0)
    module = part(config, neuron_factory(config), stage, wiring or Wiring()).double().eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 1.0, 2.5)
    return module, (torch.rand(3, 2, stage.width, stage.grid, stage.grid, dtype=torch.float64) < 0.4).double()


def recorded(module: nn.Module, spikes: Tensor) -> dict[str, Tensor]:
    """Returns inputs and outputs of all parts in one call."""
    values: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        part.register_forward_hook(
            lambda part, inputs, out, name=name: values.update({name: out, f"{name}.in": inputs[0]})
        )
    with torch.no_grad():
        module(spikes)
    return values


@pytest.mark.parametrize("kv_first", [True, False])
@pytest.mark.parametrize("scrambled", [True, False])
def test_the_attention_adds_the_experts_that_the_router_lets_pass(
    kv_first: bool, scrambled: bool, small_config: Config
) -> None:
    attention, spikes = built(small_config, EMSA, Wiring(kv_first=kv_first, scrambled_router=scrambled))
    values = recorded(attention, spikes)
    k, v = (values[name].flatten(3) for name in ("k", "v"))
    T, B, C, N = v.shape
    expected = torch.zeros(T, B, C, N, dtype=torch.float64)
    for e in range(3):
        q, fired = values[f"experts.{e}"].flatten(3), values[f"attn_neurons.{e}"]
        product = torch.einsum("tbdn,tbdm,tbcm->tbnc", q, k, v) * 0.125
        assert torch.equal(values[f"attn_neurons.{e}.in"][:, :, 0], product)
        for n in range(N):
            place = divmod(n * 3 + e, N) if scrambled else (e, n)
            weight = values["router"].flatten(3)[:, :, place[0], place[1]]
            expected[..., n] += weight[..., None] * fired[:, :, 0, n]
    assert 1.0 < float(expected.max()) <= 3.0
    assert torch.equal(values["proj_conv.in"].flatten(3), expected)


def test_both_orders_of_the_product_give_the_same(small_config: Config) -> None:
    first, spikes = built(small_config, EMSA, Wiring(kv_first=True))
    second, _ = built(small_config, EMSA, Wiring(kv_first=False))
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(spikes), second(spikes))


def test_the_mlp_gates_its_first_half_by_its_second(small_config: Config) -> None:
    mlp, spikes = built(small_config, EMSP)
    values = recorded(mlp, spikes)
    half = values["fc1"].shape[2] // 2
    assert torch.equal(values["depthwise.in"], values["fc1"][:, :, :half])
    assert torch.equal(values["fc2_conv.in"], values["depthwise"] * values["fc1"][:, :, half:])


def test_a_hidden_layer_that_cannot_be_halved_is_refused(small_config: Config) -> None:
    config = small_config("spikformer_cifar", mlp_layer="EMSP", mlp_ratio=0.95)
    with pytest.raises(InfeasibleError, match=r"must be even \(got 15, mlp_ratio=0.95, embed_dim=16\)"):
        check_feasible(config)


@pytest.mark.parametrize("variant", ["authors", "step"])
@pytest.mark.parametrize("name", ["semm_cifar", "semm_imagenet"])
def test_the_cost_of_the_parts_is_counted_by_their_spikes(
    name: str, variant: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    keys = {"expert_dim": 5, "num_expert": 3, "variant": variant, "step": 4, "read_step": 4}
    model = small_model(name, **keys).double()
    x = pixels(model.config, batch=3).double()
    firing(model, x)
    seen: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}
    for layer, module in model.named_modules():
        module.register_forward_hook(lambda module, inputs, out, layer=layer: seen.update({layer: (inputs, out)}))
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    rows = {row["name"]: row["synops"] * 3 for row in meter.by_layer(4) if "synops" in row}
    block, N = "blocks.0", 16
    for e in range(3):
        (q, k), _ = seen[f"{block}.attn.inner.{e}"]
        assert rows[f"{block}.attn.inner.{e}"] == pytest.approx(float(min(q.sum(), k.sum())) * N)
        (_, v), _ = seen[f"{block}.attn.outer.{e}"]
        assert rows[f"{block}.attn.outer.{e}"] == pytest.approx(float(v.sum()) * N)
        (fired, weight), _ = seen[f"{block}.attn.gates.{e}"]
        assert rows[f"{block}.attn.gates.{e}"] == float((fired * weight).sum())
    (a, b), _ = seen[f"{block}.mlp.gate"]
    assert rows[f"{block}.mlp.gate"] == float((a * b).sum()) > 0
    (into,), hidden = seen[f"{block}.mlp.fc1"]
    assert rows[f"{block}.mlp.fc1.conv"] == pytest.approx(float(into.sum()) * hidden.shape[2])
    (reads,), _ = seen[f"{block}.attn.proj_conv"]
    assert rows[f"{block}.attn.proj_conv"] == pytest.approx(float(reads.sum()) * reads.shape[2])
    assert rows[f"{block}.attn.experts.0.conv"] == pytest.approx(float(seen[f"{block}.attn"][0][0].sum()) * 5)
