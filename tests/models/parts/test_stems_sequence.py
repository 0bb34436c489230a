"""The stem for sequences of pixels: lengths, order of the pixels, cost, and what it is refused for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models import InfeasibleError, create_model
from models.cost.meter import Meter
from models.parts.layers import Conv
from models.parts.stems_sequence import SequentialEmbed

KEYS = {"embed_layer": "sequential_embed", "embed_dim": 16, "num_heads": 2, "depths": 1, "step": 2}


def built(model: str, **keys: Any) -> Any:
    torch.manual_seed(0)
    return create_model({**KEYS, "model": model, "in_channels": 1, "img_size": 28, **keys}).eval()


@pytest.mark.parametrize("model", ["spikformer_cifar", "sdt_cifar", "spikingformer_cifar", "semm_cifar"])
@pytest.mark.parametrize(("size", "lengths"), [(28, [784, 391, 195, 97]), (32, [511, 255, 127, 63])])
def test_the_convolutions_have_the_lengths_of_the_benchmark(model: str, size: int, lengths: list[int]) -> None:
    net, found = built(model, img_size=size), []
    stem = net.stem
    assert isinstance(stem, SequentialEmbed)
    for conv in stem.convs:
        conv.register_forward_hook(lambda module, inputs, output: found.append(output.shape[-1]))
    stem.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape)))
    net(torch.rand(2, 1, size, size))
    assert found == [*lengths, (2, 2, 16, 8, 8)]


def test_pixels_are_read_row_by_row() -> None:
    stem = built("spikformer_cifar").stem
    x = torch.zeros(1, 1, 1, 28, 28)
    x[..., 1, 0] = 1.0  # pixel 28 of the sequence
    response = stem.convs[0](x.flatten(3).unsqueeze(3)) - stem.convs[0](torch.zeros(1, 1, 1, 1, 784))
    assert sorted({int(i) for i in response.nonzero()[:, -1]}) == [26, 27, 28, 29, 30]


@pytest.mark.parametrize(("model", "is_real"), [("spikformer_cifar", True), ("sdt_cifar", False)])
def test_layers_that_read_pooled_spikes_count_macs(model: str, is_real: bool) -> None:
    net = built(model)
    with Meter(net) as meter:
        meter.forward_steps(torch.rand(2, 1, 28, 28))
    rows = {row["name"]: row for row in meter.by_layer(2)}
    first = net.stem.convs[0]
    assert isinstance(first, Conv)
    assert rows["stem.convs.0"]["macs"] == first.weight.numel() * 784
    for name in ("attn.q", "attn.k", "attn.v"):
        assert rows[f"blocks.0.{name}.conv"]["macs"] == (2 * 64 * 16 * 16 if is_real else 0)
    assert rows["blocks.0.mlp.fc1.conv"]["macs"] == (2 * 64 * 16 * 64 if is_real else 0)
    assert rows["blocks.0.mlp.fc2.conv"]["macs"] == 0


def test_experts_and_their_router_read_pooled_spikes_too() -> None:
    net = built("semm_cifar")
    with Meter(net) as meter:
        meter.forward_steps(torch.rand(2, 1, 28, 28))
    costs = {row["name"]: row.get("macs", 0) for row in meter.by_layer(2) if row["name"].startswith("blocks.0")}
    real = {name for name, macs in costs.items() if macs}
    experts = {f"blocks.0.attn.experts.{i}.conv" for i in range(net.config.num_expert)}
    names = {f"blocks.0.{name}.conv" for name in ("attn.k", "attn.v", "attn.router", "mlp.fc1")}
    assert real == experts | names


@pytest.mark.parametrize(
    "keys",
    [
        {"model": "qkformer_cifar", "depths": 4, "embed_dim": 32},
        {"model": "spikformer_cifar", "attn_layer": "TIM"},
        {"model": "spikformer_cifar", "pos_layer": "learned"},
        {"model": "spikformer_cifar", "embed_dim": 12},
    ],
)
def test_what_the_stem_does_not_fit_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(InfeasibleError, match=r"sequential_embed|an eighth"):
        create_model({**KEYS, "in_channels": 1, "img_size": 28, **keys})
