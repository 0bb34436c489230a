"""The report's rows: sizes counted by hand, limits of cores, and files that hold all of them."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import numpy as np
import pytest

from models.chip.graph import Graph
from models.chip.quantize import Precision, quantize
from models.chip.report import BETWEEN, Measured, csv_text, page, rows
from tests.support.chip_graphs import Builder, attention, convolutions

RANGE = (0.0, 1.0)


def table(graph: Graph, measured: Measured | None = None, **precision: int) -> dict[str, dict[str, Any]]:
    """Returns the rows of a graph in integers, by the layer's name."""
    integer = quantize(graph, Precision(**precision), RANGE)
    return {row["layer"]: row for row in rows(integer, measured or Measured())}


def test_synapses_and_fans_are_those_of_the_connections() -> None:
    row = table(convolutions())["conv2"]  # 3x3, 8 channels in 2 groups, on 3 x 3 pixels
    inside = 9 * 9 - 4 * (3 * 3 - 2 * 2) - 4 * 3  # taps of 9 windows, less those beyond the border
    assert (row["weights"], row["fan_in"], row["fan_out"]) == (8 * 4 * 9, 4 * 9, 4 * 9)
    assert row["synapses"] == 8 * 4 * inside
    assert table(convolutions())["head"]["synapses"] == 5 * 8


@pytest.mark.parametrize("bits", [4, 8])
def test_ranges_are_those_of_the_width(bits: int) -> None:
    for row in table(convolutions(kind="if"), bits=bits).values():
        if "weights" in row:
            assert row["weight_bits"] <= bits
            assert -(2 ** (bits - 1)) <= row["lowest"] <= row["largest"] < 2 ** (bits - 1)


def test_cores_name_their_reasons() -> None:
    found = table(attention())
    assert found["inner"]["Loihi"] == "unsupported: a product of two spike trains"
    assert found["stem"]["Loihi"].startswith("unsupported: its input is no spikes")
    assert found["q.conv"]["Speck (DYNAP-CNN)"] == "faithful"
    assert found["q.neuron"]["Speck (DYNAP-CNN)"].startswith("unsupported: membranes of 24 bits (16)")
    assert found["q.conv"]["TrueNorth"].startswith("approximate: ")
    assert table(convolutions(kind="ilif"))["fire1"]["TrueNorth"].startswith("unsupported: neurons that emit 0..4")


def test_weights_of_more_bits_than_a_core_are_unsupported() -> None:
    row = table(convolutions(kind="if"), bits=12)["conv3"]
    assert row["Speck (DYNAP-CNN)"] == f"unsupported: {row['weight_bits']}-bit weights (8)"
    assert row["Loihi"] == f"unsupported: {row['weight_bits']}-bit weights (9 with sign)"


def test_large_layers_exceed_the_axons_of_a_core() -> None:
    build = Builder(0, steps=2)
    build.add("image", "input", shape=[600, 3, 3], kind="events")
    build.neuron("fire", build.conv("conv", "image", 2, 3), "if")
    row = table(build.graph("fire", 2))["conv"]
    assert row["Loihi"] == "unsupported: a fan-in of 5400 (4096)"
    assert row["TrueNorth"].startswith("unsupported: a fan-in of 5400 (256)")


def test_what_was_measured_stands_beside_its_layer() -> None:
    measured = Measured({"images": "3"}, {"fire1": 12.5}, {"conv1": 90.0}, {"fire1": 0}, {"fire1": 1000.0},
                        {"fire1": 1.25})  # fmt: skip
    found = table(convolutions(kind="if"), measured)
    assert (found["fire1"]["spikes"], found["fire1"]["drift"], found["fire1"]["peak_bits"]) == (12.5, 1.25, 11)
    assert found["fire1"]["Speck (DYNAP-CNN)"] == "faithful"  # 11 bits of membrane were used
    assert found["conv1"]["synops"] == 90.0
    assert "drift" not in found["fire2"]


def test_the_page_and_the_table_have_all_rows() -> None:
    integer = quantize(convolutions(grid=7), Precision(), RANGE)
    found = rows(integer, Measured({"accuracy": "90 %"}))
    read = list(csv.DictReader(StringIO(csv_text(found))))
    assert [row["layer"] for row in read] == [row["layer"] for row in found]
    assert [row["weights"] for row in read] == [str(row.get("weights", "")) for row in found]
    text = page(integer, found, Measured({"accuracy": "90 %"}))
    assert "- accuracy: 90 %" in text
    assert "`conv1`: 8 of 8 channels keep the steps of their training" in text
    assert all(f"`{row['layer']}`" in text for row in found if row["op"] not in BETWEEN)


def test_widths_of_weights_hold_their_largest_values() -> None:
    row = table(convolutions(kind="if", grid=7), bits=8)["conv1"]
    assert (row["lowest"], row["largest"], row["weight_bits"]) == (-7, 7, 4)
    assert np.isfinite(row["synapses"])
