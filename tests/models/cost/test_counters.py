"""Counting rules on all models, against their definition: the output with weights 1 and biases 0. One block per family
is also compared with hand-computed counts, with every neuron firing at both of two steps on 16x16 images."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models import ModelConfig, create_model
from models.attention.tim import TemporalInteraction
from models.cost.counters import levels, spikes_per_value
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv, GroupProduct, Head, SpikeMatmul

Build = Callable[..., SpikingModel]
Config = Callable[..., ModelConfig]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


# Widths C = 16, N = 16 tokens (4x4), two heads of d = 8, hidden width 64, unless stated otherwise. Layers are 1x1,
# so an input value meets as many weights as the layer has outputs. With membrane shortcuts (ms) layers see ones; with
# spike shortcuts (sew) a block sees 2 = 1 + 1 of the stem, and its MLP 3.
N, C, HIDDEN = 16, 16, 64

BY_HAND: dict[str, tuple[str, int, int]] = {
    # ms: Q, K, V; (Q K^T) V, each product 16 C spikes x 16 tokens; projection; MLP.
    "spikingformer_cifar": ("blocks.0", 3 * N * C * C + 2 * N * C * N + N * C * C + 2 * N * C * HIDDEN, 0),
    # ms: the masks take one operation per spike, of K where V fires too, and of Q.
    "sdt_cifar": ("blocks.0", 3 * N * C * C + 2 * N * C + N * C * C + 2 * N * C * HIDDEN, 0),
    # sew. TIM's convolution runs once for two steps, on the first step's queries, for each of two heads: tokens are its
    # channels, so a value meets 16 outputs x the uses 3, 4, 5, 5, 5, 5, 4, 3 of a 1x5 kernel along a head's width.
    # All counts here are of two steps, so they are halved.
    "tim_dvs": (
        "blocks.0",
        3 * N * 2 * C * C + 2 * N * C * N + N * C * C + N * 3 * C * HIDDEN + N * HIDDEN * C + 2 * N * N * 34 // 2,
        0,
    ),
    # sew, first stage, 256 tokens: Q, K of 2s; the sum over Q and the mask on K one per spike; projection; MLP of 3s.
    "qkformer_cifar": (
        "stages.0.0",
        2 * 256 * 2 * C * C + 2 * 256 * C + 256 * C * C + 256 * 3 * C * HIDDEN + 256 * HIDDEN * C,
        0,
    ),
    # ms, second stage, 8x8 of 32 channels: depthwise 3x3, whose kernel uses a line 2, 3, ..., 3, 2 = 22 times; MLP.
    "maxformer_cifar": ("stages.1.0", 32 * 22**2 + 2 * 64 * 32 * 128, 0),
    # ms, fourth stage, 1 token of 48: a RepConv is a 1x1 of spikes, then 9 x 48 and 48 x 48 products of real values.
    # Q, K, V and the projection are RepConvs; Q (K^T V), 48 spikes x a head's width 24 each; MLP.
    "metaspikformer": ("stages.3.0", 4 * 48 * 48 + 2 * 48 * 24 + 2 * 48 * 192, 4 * (9 * 48 + 48 * 48)),
    # ms, fourth stage, 1 token of 48, integers: each neuron gives 4 of 4. Separable: 48 to 96, depthwise 3x3 of one
    # position (one weight), 96 to 48; Q, K; V 4 times as wide; (Q K^T) V, 48 and 192 spikes x 1; projection, MLP.
    "espikeformer_l": (
        "stages.3.0",
        4 * (48 * 96 + 96 + 96 * 48 + 2 * 48 * 48 + 48 * 192 + 48 + 192 + 192 * 48 + 2 * 48 * 192),
        0,
    ),
    # ms, first stage, 16x16, patches of 4x4: each spike is in one patch and meets 32 outputs; Y1^T S: 256 x 16 spikes x
    # 16 patches; Y2 A: the map's 2 heads x 16 x 256 spikes x a head's width 8; projection; feed-forward 16 to 64, one
    # group of 3x3 with 46 uses a line (2 + 14 x 3 + 2), 64 to 16.
    "spikingresformer_cifar": (
        "stages.0.0",
        256 * 16 * 32 + 256 * 16 * 16 + 2 * 16 * 256 * 8 + 256 * 16 * 16 + 2 * 256 * 16 * 64 + 64 * 64 * 46**2,
        0,
    ),
    # ms: a spike meets the 4 entries of a line of Haar's matrix. Rows of ones give 2, 0, 0, 0: 64 spikes; a product in
    # groups of 4; backwards, columns of ones give 1.71, .29, .71, -.71: 2 of 4 fire at step 1, one of them negatively,
    # and 3 at step 2, 160 in the mean; 1x1 and 3x3 (10 uses a line) in groups of 4; MLP.
    "swformer_cifar": ("blocks.0", 4 * (256 + 64 + 256 + 256 + 160 + 256 + 16 * 10**2) + 2 * N * C * HIDDEN, 0),
    # 4x4 of 64 channels: two 3x3 convolutions, 10 uses a line (2 + 3 + 3 + 2).
    "sew_resnet18": ("layers.0.0", 2 * 64 * 64 * 10**2, 0),
}


def ones(layer: nn.Module) -> nn.Module:
    """Returns the layer with weights of 1, without bias and gain."""
    plain = copy.deepcopy(layer)
    plain._forward_hooks.clear()
    for name, value in plain.named_parameters():
        nn.init.constant_(value, float(name == "weight"))
    if isinstance(plain, Conv | Head):
        plain.quantizer = None  # it would change weights of 1
    if isinstance(plain, Head):
        plain.gain = 1.0
    return plain


def expected_of(model: SpikingModel, x: Tensor, steps: int) -> dict[str, float]:
    """Returns the operations of each layer fed spikes, summed over images and the first steps, by their definition.

    A layer that is called step by step, with fewer than the model's steps, works in the last ones.
    """
    calls: dict[str, list[tuple[int, Callable[[int], float]]]] = {}
    per_value = max(spikes_per_value(module) for module in model.modules() if levels(module))

    def weights(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
            out_of_ones = ones(module)(inputs[0])
            calls.setdefault(name, []).append((len(out), lambda t: float(out_of_ones[:t].sum()) * per_value))

        return hook

    def product(name: str, kinds: tuple[str, ...]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, Tensor], out: Tensor) -> None:
            a, b = (x.abs() if kind == "signed" else x for x, kind in zip(inputs, kinds, strict=True))
            products = (a @ torch.ones_like(b), torch.ones_like(a) @ b)
            spiking = [x for x, kind in zip(products, kinds, strict=True) if kind != "real"]
            factor = 1.0 if "signed" in kinds else per_value
            calls.setdefault(name, []).append((len(out), lambda t: factor * min(float(x[:t].sum()) for x in spiking)))

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Conv | Head | GroupProduct) and module.fed == "spikes":
            handles.append(module.register_forward_hook(weights(name)))
        elif isinstance(module, SpikeMatmul):
            handles.append(module.register_forward_hook(product(name, module.kinds)))
    with torch.no_grad():
        model.forward_steps(x)
    for handle in handles:
        handle.remove()
    counts = {}
    for name, layer_calls in calls.items():
        start, counts[name] = model.config.step - sum(call_steps for call_steps, _ in layer_calls), 0.0
        for call_steps, count in layer_calls:
            counts[name] += count(max(0, steps - start))
            start += call_steps
    return counts


def test_every_layer_fed_spikes_counts_by_its_definition(
    any_family: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(any_family, attn_scale=1.0)
    x = pixels(model.config)
    firing(model, x)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    for steps in (1, 2, 3):
        expected = expected_of(model, x, steps)
        counted = {row["name"]: row["synops"] * len(x) for row in meter.by_layer(steps) if "synops" in row}
        assert sum(expected.values()) > 0.0
        for layer, operations in expected.items():
            assert counted[layer] == pytest.approx(operations, rel=1e-6), (layer, steps)


def test_a_neuron_counts_whole_spikes_and_the_rate_is_a_share(
    any_family: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    for node_type in ("LIFNode", "ILIFNode", "NILIFNode"):
        model = small_model(any_family, node_type=node_type)
        x = pixels(model.config)
        firing(model, x)
        with Meter(model) as meter, torch.no_grad():
            meter.forward_steps(x)
        spikes = [count for layer in meter.layers.values() if layer.neurons for count in layer.sums["spikes"]]
        assert all(count == round(count) for count in spikes)
        assert 0.0 < meter.totals(read_step=3)["spike_rate"] < 1.0


def test_costs_of_shapes_are_known_without_computing(any_family: str, small_config: Config) -> None:
    config = small_config(any_family)
    with torch.device("meta"), torch.no_grad():
        model = create_model(config).eval()
        with Meter(model) as meter:
            meter.forward_steps(torch.empty(1, config.in_channels, config.img_size, config.img_size))
    assert sum(layer.neurons for layer in meter.layers.values()) > 0


@pytest.mark.parametrize("name", BY_HAND)
def test_a_block_has_the_hand_computed_counts(name: str, small_model: Build) -> None:
    block, synops, macs = BY_HAND[name]
    model = small_model(name, step=2, read_step=2).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.constant_(module.bias, 1000.0)
        elif isinstance(module, TemporalInteraction) and module.conv.bias is not None:
            nn.init.constant_(module.conv.bias, 1000.0)
    with Meter(model) as meter:
        meter.forward_steps(torch.randn(2, model.config.in_channels, 16, 16))
    rows = [row for row in meter.by_layer(2) if row["name"].startswith(f"{block}.") and "synops" in row]
    assert sum(row["synops"] for row in rows) == 2 * synops
    assert sum(row["macs"] for row in rows) == 2 * macs
