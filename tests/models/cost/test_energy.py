"""Energy against published totals and against hand-computed figures."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from models import create_model
from models.cost.energy import (
    PublishedLayer,
    Work,
    addition_mj,
    bits_of,
    energy_mj,
    integer_energy_mj,
    mac_mj,
    memory_energy_mj,
    published_energy_mj,
    quantised_ann_energy_mj,
)
from models.cost.meter import Meter

STEM_RATES = {
    512: (25.8312565, 15.3364436, 13.1065373, 12.9557331),
    768: (19.796546, 13.1895378, 12.0846457, 13.0084657),
}
BLOCK_RATES: dict[int, dict[str, tuple[float, ...]]] = {
    512: {
        "qkv": (17.6595751, 33.7953024, 34.2222987, 34.4263662, 34.3272679, 35.9286898, 34.2288006, 31.7671993),
        "proj": (29.7803004, 30.9584658, 31.4189673, 29.0892771, 20.9885448, 16.5693003, 10.6833842, 9.47712146),
        "fc1": (26.76769, 33.0194005, 34.7303054, 34.6611222, 36.0386227, 35.9497969, 32.2695614, 29.923303),
        "fc2": (3.28870974, 2.9645371, 2.55983278, 1.92913754, 1.42090094, 0.952562647, 0.568941609, 1.37684836),
    },
    768: {
        "qkv": (14.7487163, 29.8753035, 29.0634241, 30.8397023, 31.1861667, 30.6928039, 29.2061912, 27.3812756),
        "proj": (26.5166095, 28.0114389, 28.5826126, 23.4471216, 18.0228588, 12.6033685, 8.09031347, 7.15480859),
        "fc1": (22.7515193, 29.2010668, 29.7635107, 31.4734939, 31.2871279, 29.9676573, 26.95136, 26.9668558),
        "fc2": (2.34958546, 1.82614675, 1.5562295, 1.01932791, 0.563001929, 0.314805499, 0.28877004, 0.558467084),
    },
}
"""Firing rates, in percent, of the inputs of Spikingformer's layers on ImageNet, from its authors' logs."""
Q_RATES = (0.17, 0.12, 0.11, 0.08, 0.06, 0.08, 0.07, 0.10)
K_RATES = (0.036, 0.040, 0.044, 0.050, 0.043, 0.031, 0.024, 0.028)
"""Of the 8-512 model, by block, rounded in the logs; K fires less than V throughout."""


def shapes(**keys: Any) -> Meter:
    """Returns a meter after a pass over the shapes of an ImageNet model, without values."""
    with torch.device("meta"), torch.no_grad():
        model = create_model({"model": "spikingformer_imagenet", "num_classes": 1000, "img_size": 224, **keys}).eval()
        with Meter(model) as meter:
            meter.forward_steps(torch.empty(1, 3, 224, 224))
    return meter


def rate_of(width: int, name: str) -> float | None:
    """Returns the published rate of a layer's input; None for the first layer and the head, which see real values."""
    if name in ("head", "stem.chain.convs.0"):
        return None
    if name.startswith("stem"):
        return STEM_RATES[width][3 if "position" in name else int(name[-1]) - 1] / 100
    block, layer = re.fullmatch(r"blocks\.(\d)\.(.*)", name).groups()  # type: ignore[union-attr]
    part = {"attn.q.conv": "qkv", "attn.k.conv": "qkv", "attn.v.conv": "qkv", "attn.proj_conv": "proj"}
    key = part.get(layer, layer.split(".")[-2])
    return BLOCK_RATES[width][key][int(block)] / 100


@pytest.mark.parametrize(("width", "published_mj"), [(512, 7.4385), (768, 13.6273)])
def test_our_operations_at_the_published_rates_give_the_published_energy(width: int, published_mj: float) -> None:
    steps, layers = 4, []
    for name, layer in shapes(embed_dim=width, depths=8, step=steps).layers.items():
        if layer.shape.role == "weights":
            once = name == "head"
            operations = (layer.shape.dense + layer.shape.bias) * (1 if once else steps)
            layers.append(PublishedLayer(operations, rate_of(width, name)))
    assert len(layers) == 54
    assert published_energy_mj(layers, 0.0) == pytest.approx(published_mj, abs=5e-4)


def test_with_the_attention_the_published_totals_are_reached() -> None:
    meter = shapes(embed_dim=512, depths=8)
    steps, heads, tokens, width = 4, 8, 14 * 14, 64
    products = [layer for layer in meter.layers.values() if layer.shape.role == "attention"]
    assert [layer.shape.dense for layer in products] == [heads * tokens * width**2] * 16
    shared = sum(steps * products[0].shape.dense * (q + k) for q, k in zip(Q_RATES, K_RATES, strict=True))
    assert 7.4385 + energy_mj(0, shared) == pytest.approx(7.4635, abs=5e-4)


def test_the_published_rule_counts_repeats_biases_and_integers_as_the_tool_does() -> None:
    first = PublishedLayer(4 * 1000, None)  # real pixels, once a step
    spiking = PublishedLayer(4 * 500, 0.1)  # of 2000 operations a tenth meets a spike
    integers = PublishedLayer(4 * 300, None)
    expected = 4.6e-9 * (4000 + 1200) + 0.9e-9 * (200 + 70)
    assert published_energy_mj([first, spiking, integers], 70) == pytest.approx(expected)


def test_the_default_rule_is_the_known_example() -> None:
    assert energy_mj(5.312266e6, 245.8512e6) == pytest.approx(0.24570, abs=5e-6)


def test_the_meter_detects_binary_inputs_rates_and_repeats() -> None:
    keys = {"model": "spikformer_cifar", "img_size": 8, "in_channels": 1, "num_classes": 10, "patch_size": 2}
    keys |= {"embed_dim": 8, "num_heads": 2, "mlp_ratio": 1.0, "depths": 1, "step": 2}
    torch.manual_seed(0)
    model = create_model(keys).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.bias, 1000.0)  # every neuron fires at every step
    with Meter(model, "published") as meter:
        meter.forward_steps(torch.randn(3, 1, 8, 8))
    # The stem's convolutions after the first see ones: 9 (1 x 2 + 2 x 4 + 4 x 8) products on 8 x 8, 9 x 8 x 8 on 4 x 4.
    stem = 9 * (2 + 8 + 32) * 64 + 9 * 64 * 16
    # q, k, v see 2 = 1 + 1, integers, so they are MACs with their biases; so does fc1. The projection and fc2 see ones.
    integers = 3 * (64 + 8) * 16 + (64 + 8) * 16
    ones = (64 + 8) * 16 + (64 + 8) * 16
    # Products of two heads of 4 channels on 16 tokens, each 128 spikes x 16. The first convolution 9 x 64, both steps.
    synops = 2 * (stem + ones + 2 * 128 * 16)
    macs = 2 * (9 * 64 + integers) + (8 * 10 + 10)
    assert meter.totals(2)["energy_mj"] == pytest.approx(4.6e-9 * macs + 0.9e-9 * synops)
    assert meter.totals(1)["energy_mj"] == pytest.approx(4.6e-9 * (macs + 90) / 2 + 0.9e-9 * synops / 2)


WORK = Work(steps=4, macs=100, synops=1000, neurons=50, levels=1, weights=200, dense=3000, dense_attention=400)


def test_memory_traffic_is_that_of_weights_spikes_and_membranes() -> None:
    # 8 x 8 bits: 3.1 pJ / 16 = 0.19375, + 0.1 for the addition.
    compute = 100 * 0.29375e-9 + 1000 * 0.1e-9
    bits = 200 * 8 * 4 + 2 * 50 * 1 * 4 + 2 * 50 * 16 * 3  # 100 pJ for 64 of them
    assert memory_energy_mj(WORK) == pytest.approx(compute + bits * 100e-9 / 64)


def test_the_quantised_network_has_bits_for_every_spike_count_and_computes_every_product() -> None:
    assert bits_of(4) == 3  # 0..4 spikes
    compute = 100 * mac_mj(8, 8) + 3000 * mac_mj(8, 3) + 400 * mac_mj(3, 3)
    assert quantised_ann_energy_mj(WORK) == pytest.approx(compute + (200 * 8 + 2 * 50 * 3) * 100e-9 / 64)
    assert mac_mj(8, 8) == pytest.approx(0.29375e-9)
    assert [bits_of(n) for n in (1, 3, 15, 16)] == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("bits", "pj"), [(4, 0.03), (8, 0.03), (9, 0.05), (16, 0.05), (24, 0.1), (32, 0.1), (48, 0.15)]
)
def test_an_addition_costs_what_the_next_published_width_costs(bits: int, pj: float) -> None:
    assert addition_mj(bits) == pytest.approx(pj * 1e-9)


def test_integer_operations_cost_their_widths() -> None:
    only_additions = integer_energy_mj(1e6, 0.0, weight_bits=8, input_bits=8, sum_bits=8)
    assert only_additions == pytest.approx(0.03e-3)
    with_products = integer_energy_mj(1e6, 1e6, weight_bits=8, input_bits=8, sum_bits=32)
    assert with_products == pytest.approx(0.1e-3 + (3.1 / 16 + 0.1) * 1e-3)
    halved = integer_energy_mj(0.0, 1e6, weight_bits=4, input_bits=8, sum_bits=32)
    assert halved == pytest.approx((3.1 / 32 + 0.1) * 1e-3)
    assert integer_energy_mj(0.0, 5.0, weight_bits=8, input_bits=8, sum_bits=32) == pytest.approx(5.0 * mac_mj(8, 8))
