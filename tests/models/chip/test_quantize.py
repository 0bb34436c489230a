"""Quantisation: exact where integers can be, closer with more bits, and refused by name where it has no form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip import dense
from models.chip.graph import Graph, Node
from models.chip.ops import Array
from models.chip.quantize import Precision, fixed_point, quantize
from tests.support.chip_graphs import Builder, attention, convolutions, images

RANGE = (0.0, 1.0)
WIDE = Precision(16, membrane_bits=32)


def drift(graph: Graph, precision: Precision, count: int = 8) -> Array:
    """Returns the share of outputs that differ from the float graph's, of each layer of neurons."""
    exact, found = (dense.run(one, images(count)).spikes for one in (graph, quantize(graph, precision, RANGE)))
    return np.array([(found[name] != exact[name]).mean() for name in exact])


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("kind", ["if", "ielif"])
def test_a_network_of_integers_keeps_all_its_spikes(kind: str, bits: int) -> None:
    graph = convolutions(kind=kind, grid=7)
    rates = [spikes.mean() for spikes in dense.run(graph, images(8)).spikes.values()]
    assert min(rates) > 0.02
    assert drift(graph, Precision(bits)).max() == 0.0


@pytest.mark.parametrize("kind", ["lif", "plif", "if", "ilif", "ielif"])
@pytest.mark.parametrize("make", [convolutions, attention])
def test_more_bits_change_fewer_spikes(make: Any, kind: str) -> None:
    graph = make(kind=kind)
    assert np.mean([spikes.mean() for spikes in dense.run(graph, images(8)).spikes.values()]) > 0.02
    low, middle, high = (drift(graph, one).mean() for one in (Precision(4), Precision(8), WIDE))
    assert high <= middle <= low
    assert middle < 0.05
    assert high < 0.001


def test_logits_have_the_units_of_the_model() -> None:
    graph = attention(kind="if")
    exact, found = (dense.run(one, images(8)).logits for one in (graph, quantize(graph, WIDE, RANGE)))
    np.testing.assert_allclose(found, exact, atol=0.01 * np.abs(exact).max())


@pytest.mark.parametrize("scale", [1e-2, 1e-4])
def test_a_head_of_small_values_beside_a_large_bias_keeps_its_weights(scale: float) -> None:
    graph = small_values(scale)
    exact, found = (dense.run(one, images(8)).logits for one in (graph, quantize(graph, Precision(8), RANGE)))
    np.testing.assert_allclose(found - 1.0, exact - 1.0, atol=0.05 * np.abs(exact - 1.0).max())


def small_values(scale: float) -> Graph:
    """Returns a head with bias 1 on the sums of an image's channels, times a scale."""
    shape = images(1).shape[1:]
    weight = np.random.default_rng(0).normal(0.0, 1.0, (3, shape[0]))
    nodes = (
        Node("image", "input", shape, attrs={"shape": list(shape), "kind": "image"}),
        Node("sum", "sum", shape[:1], ("image",), attrs={"axes": [1, 2], "keepdims": False}),
        Node("scaled", "scale", shape[:1], ("sum",), {"factor": np.array(scale)}),
        Node("head", "linear", (3,), ("scaled",), {"weight": weight, "bias": np.ones(3)}, {"fed": "real"}, "head"),
        Node("logits", "readout", (3,), ("head",), attrs={"steps": 1}),
    )
    return Graph(nodes, 1)


def test_all_arrays_are_integers_of_their_width_but_the_factor_on_logits() -> None:
    for node in quantize(attention(kind="lif"), Precision(4), RANGE):
        assert node.is_integer or not node.arrays or node.op == "readout"
        if "weight" in node.arrays:
            assert -8 <= node.arrays["weight"].min() <= node.arrays["weight"].max() <= 7


def test_sums_of_membranes_are_shifted_not_multiplied() -> None:
    factors = [
        node.arrays["factor"]
        for node in quantize(attention(kind="if"), Precision(), RANGE)
        if ".for.residual" in node.name
    ]
    assert factors
    assert all(np.array_equal(2 ** np.round(np.log2(factor)), factor) for factor in factors)


@pytest.mark.parametrize(("keep", "found"), [(0.5, (1, 1)), (0.75, (3, 2)), (1.0, (1, 0)), (2 / 3, (21845, 15))])
def test_leaks_are_fractions_of_powers_of_two(keep: float, found: tuple[int, int]) -> None:
    assert fixed_point(keep) == found


def test_the_charge_of_half_the_membrane_is_exact_in_fine_units() -> None:
    build = Builder(0, steps=4)
    build.add("image", "input", shape=[1, 1, 1], kind="events")
    build.neuron("fire", "image", "lif", threshold=1.0)
    graph = build.graph("fire", 1)
    events = np.array([1, 0, 0, 2, 1, 1, 1, 1, 0, 2, 1, 0]).reshape(3, 4, 1, 1, 1)
    exact, found = (dense.run(one, events).spikes["fire"] for one in (graph, quantize(graph, Precision())))
    assert exact.any()
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, r"bits must be 4..16 \(got 3\)"),
        ({"bits": 17}, r"bits must be 4..16 \(got 17\)"),
        ({"membrane_bits": 12}, "membrane_bits must be 16..48"),
    ],
)
def test_widths_have_limits(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Precision(**options)


def test_membranes_are_wide_enough_for_the_weights() -> None:
    assert Precision.of_weights(8) == Precision()
    assert (Precision.of_weights(8).membrane_bits, Precision.of_weights(16).membrane_bits) == (24, 32)
    assert Precision.of_weights(8, 20).accumulator_bits == 32
    assert Precision.of_weights(16, 40).accumulator_bits == 40


def test_pixels_need_a_range() -> None:
    with pytest.raises(ConfigError, match="image: the range of the images' values is needed"):
        quantize(convolutions(), Precision())


def test_scales_that_differ_where_a_layer_needs_one_become_whole_factors() -> None:
    build = Builder(0, steps=4)
    build.nodes = list(convolutions(kind="if").nodes[:3])
    build.add("uneven", "scale", "fire1", arrays={"factor": np.linspace(1.0, 2.0, 36).reshape(1, 6, 6)})
    build.neuron("fire2", build.conv("conv2", "uneven", 4), "if")
    graph = build.graph("fire2", 4)
    integer = quantize(graph, Precision(), RANGE)
    factor = integer["uneven.for.conv2.0"].arrays["factor"]
    np.testing.assert_allclose(factor / factor.min(), np.linspace(1.0, 2.0, 36).reshape(1, 6, 6), rtol=0.01)
    assert any(name == "conv2" and "off by up to" in text for name, text in integer.meta["notes"])
    assert 0.0 < drift(graph, Precision())[1] < 0.05


def test_a_factor_that_widens_its_input_is_refused_with_its_name() -> None:
    build = Builder(0, steps=4)
    build.nodes = list(convolutions().nodes[:3])
    build.add("one", "sum", "fire1", axes=[0], keepdims=True)
    build.add("blocks.0.wide", "scale", "one", arrays={"factor": np.ones((4, 1, 1))})
    with pytest.raises(ConfigError, match=r"blocks.0.wide: a factor of more values than its input"):
        quantize(build.graph("blocks.0.wide", 4), Precision(), RANGE)


def test_a_threshold_beyond_the_membranes_is_refused() -> None:
    build = Builder(0, steps=4)
    build.nodes = list(convolutions().nodes[:-5])
    build.add("large", "scale", "conv3", arrays={"factor": np.array(1e-9)})
    build.neuron("fire4", "large")
    with pytest.raises(ConfigError, match=r"fire4: thresholds up to .* exceed membranes of 24 bits"):
        quantize(build.graph("fire4", 8), Precision(), RANGE)
