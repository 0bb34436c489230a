"""Graphs of plain operations: shapes follow from the operations, and what no machine could execute is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.ops import OPS

ROW = (4, 5, 6)
IMAGE = Node("image", "input", ROW, attrs={"shape": list(ROW), "kind": "image"})
CONV = Node(
    "conv",
    "conv",
    (8, 3, 3),
    ("image",),
    {"weight": np.ones((8, 2, 3, 3)), "bias": np.zeros(8)},
    {"stride": [2, 2], "padding": [1, 1], "groups": 2, "fed": "real"},
    layer="conv",
)
NEURON = Node(
    "fire", "neuron", (8, 3, 3), ("conv",), {"threshold": np.array(1.0)}, {"kind": "lif", "levels": 1, "tau": 2.0}
)
SUM = Node("sum", "sum", (8,), ("fire",), attrs={"axes": [1, 2], "keepdims": False})
HEAD = Node("head", "linear", (3,), ("sum",), {"weight": np.ones((3, 8))}, {"fed": "spikes"}, layer="head")
READOUT = Node("logits", "readout", (3,), ("head",), attrs={"steps": 4})
NODES = (IMAGE, CONV, NEURON, SUM, HEAD, READOUT)


def shape_of(op: str, *inputs: tuple[int, ...], arrays: dict[str, Any] | None = None, **attrs: Any) -> tuple[int, ...]:
    return OPS[op].shape(list(inputs), arrays or {}, attrs)


def test_a_graph_knows_its_ends_nodes_and_consumers() -> None:
    graph = Graph(NODES, steps=4)
    assert (graph.input, graph.output) == (IMAGE, READOUT)
    assert graph["fire"] is NEURON
    assert [node.name for node in graph.consumers()["conv"]] == ["fire"]
    assert graph.consumers()["logits"] == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (shape_of("matmul", (2, 3, 4), (2, 4, 5)), (2, 3, 5)),
        (shape_of("mask", (2, 3, 4), (2, 3, 1)), (2, 3, 4)),
        (shape_of("sum", (2, 3, 4), axes=[1], keepdims=True), (2, 1, 4)),
        (shape_of("max_pool", (2, 9, 8), kernel=[3, 3], stride=[2, 2], padding=[1, 1]), (2, 5, 4)),
        (shape_of("sum_pool", (2, 1, 8), kernel=[1, 2], stride=[1, 2], padding=[0, 0]), (2, 1, 4)),
        (shape_of("transpose", (2, 3, 4), axes=[0, 2, 1]), (2, 4, 3)),
        (shape_of("slice", (2, 8), axis=1, start=1, stop=8, step=2), (2, 4)),
        (shape_of("concat", (2, 3), (4, 3), axis=0), (6, 3)),
        (shape_of("pad", (2, 3), widths=[[0, 0], [1, 2]]), (2, 6)),
        (shape_of("scale", (2, 3, 4), arrays={"factor": np.ones((3, 1))}), (2, 3, 4)),
        (shape_of("linear", (4, 2), arrays={"weight": np.ones((5, 2))}), (4, 5)),
    ],
)  # fmt: skip
def test_shapes_follow_from_the_operation(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("position", "changed", "message"),
    [
        (1, replace(CONV, op="softmax"), "conv: unknown op softmax"),
        (1, replace(CONV, inputs=("sum",)), "conv: reads sum, which no node before it computes"),
        (1, replace(CONV, inputs=()), "conv: conv needs 1 inputs"),
        (1, replace(CONV, name="image"), "image: the name is used twice"),
        (1, replace(CONV, shape=(8, 5, 6)), r"conv: its output has the shape \[8, 3, 3\]"),
        (1, replace(CONV, attrs={**CONV.attrs, "groups": 1}), "conv: weights for 2 channels read 4"),
        (1, replace(CONV, attrs={**CONV.attrs, "fed": "light"}), "conv: fed must be one of spikes, encoded, real"),
        (1, replace(CONV, attrs={**CONV.attrs, "dilation": 2}), "conv: needs the attributes"),
        (1, replace(CONV, arrays={"weight": np.ones((8, 2, 3, 3), np.float32)}), "weight must be float64 or integers"),
        (2, replace(NEURON, attrs={"kind": "lif", "levels": 1}), "fire: neurons of kind lif need tau"),
        (2, replace(NEURON, attrs={"kind": "psn", "levels": 1}), "fire: kind must be one of"),
        (2, replace(NEURON, arrays={}), "fire: needs the arrays"),
        (5, replace(READOUT, attrs={"steps": 5}), "needs 1..4 steps"),
        (5, replace(READOUT, op="add", attrs={}), "ends with its only readout"),
    ],
)
def test_what_cannot_be_executed_is_refused(position: int, changed: Node, message: str) -> None:
    nodes = [*NODES]
    nodes[position] = changed
    with pytest.raises(ConfigError, match=message):
        Graph(tuple(nodes), steps=4)


def test_an_integer_neuron_needs_no_float_leak() -> None:
    integer = replace(NEURON, arrays={"threshold": np.array(7)}, attrs={"kind": "lif", "levels": 1})
    graph = Graph((IMAGE, CONV, integer, SUM, HEAD, READOUT), steps=4)
    assert graph["fire"].is_integer
    assert not graph["conv"].is_integer
