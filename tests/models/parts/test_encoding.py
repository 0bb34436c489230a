"""Encodings of still images: their formulas value by value, noise that is fixed in evaluation, and their cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.encoding import ENCODINGS, encode
from models.parts.layers import Conv

Build = Callable[..., SpikingModel]


def pixels() -> Tensor:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.view(-1)[:6] = torch.tensor([0.0, 1.0, 0.5, 0.25, 1 / 256, -0.3], dtype=torch.float64)
    return x


@pytest.mark.parametrize("T", [1, 4, 10])
def test_time_to_first_spike_follows_its_formula(T: int) -> None:
    x = pixels()
    spikes = encode(x, "ttfs", T, training=True)
    for t in range(T):
        for value, spike in zip(x.flatten().tolist(), spikes[t].flatten().tolist(), strict=True):
            assert spike == (1 / (t + 1) if T - t - 1 < value * T <= T - t else 0.0)
    assert torch.equal(spikes.ne(0).sum(0), (x > 0).long())


@pytest.mark.parametrize("T", [1, 4, 10])
def test_phase_coding_shows_the_bits_of_a_pixel(T: int) -> None:
    x = pixels().abs()
    spikes = encode(x, "phase", T, training=True)
    for t in range(T):
        for value, spike in zip(x.flatten().tolist(), spikes[t].flatten().tolist(), strict=True):
            bit = math.floor(256 * value) >> (7 - t % 8) & 1
            assert spike == bit * 2.0 ** -(t % 8)


def test_eight_steps_of_phase_coding_restore_a_pixel() -> None:
    x = torch.arange(256).view(1, 1, 16, 16) / 256
    assert torch.equal(encode(x, "phase", 8, training=False).sum(0) / 2, x)


def test_rate_coding_fires_as_often_as_a_pixel_is_bright() -> None:
    torch.manual_seed(0)
    x = torch.tensor([0.0, 0.3, 0.8, 1.0]).view(1, 1, 2, 2)
    rates = encode(x, "rate", 20_000, training=True).mean(0).flatten()
    assert (rates[0], rates[3]) == (0.0, 1.0)
    assert torch.allclose(rates, x.flatten(), atol=0.02)


def test_the_noise_is_new_in_training_and_fixed_in_evaluation() -> None:
    x = pixels()
    first, second = (encode(x, "rate", 4, training=True) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    whole = encode(x, "rate", 4, training=False)
    torch.manual_seed(1)
    assert torch.equal(encode(x[1:], "rate", 4, training=False), whole[:, 1:])
    assert not torch.equal(whole[0], whole[1])


def test_direct_coding_shows_the_pixels_once() -> None:
    x = pixels()
    assert torch.equal(encode(x, "direct", 4, training=True), x.unsqueeze(0))


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_model_takes_encoded_images(any_model: str, encoding: str, small_model: Build) -> None:
    model = small_model(any_model, encoding=encoding).eval()
    size = model.config.img_size
    x = torch.rand(2, model.config.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    logits = model.forward_steps(x)
    assert logits.shape == (model.config.step, 2, model.config.num_classes)
    assert torch.isfinite(logits).all()
    assert torch.equal(model.forward_steps(x), logits)


@pytest.mark.parametrize("encoding", ["direct", *sorted(ENCODINGS)])
def test_the_first_layer_counts_a_synaptic_operation_for_each_spike_and_weight(
    encoding: str, small_model: Build
) -> None:
    model = small_model("spikformer_cifar", encoding=encoding).eval()
    config = model.config
    x = torch.rand(2, config.in_channels, config.img_size, config.img_size)
    with Meter(model) as meter:
        meter.forward_steps(x)
    row = next(row for row in meter.by_layer(config.step) if row["name"].startswith("stem"))
    conv = next(module for module in model.modules() if isinstance(module, Conv))
    if encoding == "direct":
        assert row["synops"] == 0
        assert row["macs"] == conv.weight.numel() * config.img_size**2
        return
    spikes = encode(x, encoding, config.step, training=False).ne(0).float().flatten(0, 1)
    sums = F.conv2d(spikes, torch.ones_like(conv.weight), None, conv.stride, conv.padding)
    assert row["macs"] == 0
    assert row["synops"] == pytest.approx(float(sums.sum()) / 2)
