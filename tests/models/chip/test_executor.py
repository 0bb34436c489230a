"""The machine on graphs small enough to run by hand: spikes, additions, saturation, and what runs once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip.executor import execute
from models.chip.graph import Graph, Node
from models.chip.machine import events

CURRENT = Node("a", "linear", (2,), ("image",), {"weight": np.array([[1, 0], [1, 1]])}, {"fed": "real"}, layer="a")


def graph(*middle: Node, **image: Any) -> Graph:
    """Returns a graph of two pixels, the nodes in between, and the read-out of the last of them; three steps."""
    start = Node("image", "input", (2,), attrs={"shape": [2], "kind": "image", **image})
    end = Node("out", "readout", middle[-1].shape, (middle[-1].name,), attrs={"steps": 2})
    return Graph((start, *middle, end), 3)


def fires(threshold: Any = 4, **attrs: Any) -> Node:
    attrs = {"kind": "if", "levels": 1, **attrs}
    return Node("n", "neuron", (2,), ("a",), {"threshold": np.asarray(threshold)}, attrs, layer="n")


HEAD = Node(
    "h",
    "linear",
    (3,),
    ("n",),
    {"weight": np.array([[1, 2], [3, 4], [5, 6]]), "bias": np.array([0, 0, 1])},
    {"fed": "spikes"},
    layer="h",
)
PIXELS = {"scale": 0.5, "lowest": -8, "largest": 7}


def test_spikes_and_additions_are_counted_step_by_step() -> None:
    run = execute(graph(CURRENT, fires(), HEAD, **PIXELS), np.array([1.1, 0.4]), keep=True)
    # Pixels 2 and 1, currents 2 and 3: the neurons reach 4 at the second step both, and not again.
    assert run.outputs["n"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert run.logits.tolist() == [[0, 0, 1], [3, 7, 12], [0, 0, 1]]
    assert run.readout.tolist() == [1.5, 3.5, 6.5]
    assert (run.layers["n"].spikes, run.layers["h"].synops, run.layers["h"].macs) == (2, 6, 0)
    assert (run.layers["a"].synops, run.layers["a"].macs, run.layers["n"].peak) == (0, 4, 6)
    assert (run.spikes, run.synops) == (2, 6)


def test_layers_before_the_first_neurons_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    linear = events.linear
    monkeypatch.setattr(events, "linear", lambda x, table: calls.append(table.shape[1]) or linear(x, table))
    execute(graph(CURRENT, fires(), HEAD, **PIXELS), np.zeros(2))
    assert calls == [2, 3, 3, 3]


def test_values_beyond_their_bits_are_counted_where_they_occur() -> None:
    narrow = replace(CURRENT, attrs={"fed": "real", "bits": 3})
    run = execute(graph(narrow, fires(bits=3), HEAD, **PIXELS), np.array([2.0, 1.0]))
    assert run.layers["a"].saturated == 2  # 4 and 6, over 3
    assert run.layers["n"].saturated == 4  # 6 at the second step and 6 at the third
    assert run.spikes == 0


def test_values_that_are_no_counts_are_refused_where_spikes_are_read() -> None:
    spiking = replace(CURRENT, attrs={"fed": "spikes"}, arrays={"weight": np.array([[1.0, 0.0], [1.0, 1.0]])})
    with pytest.raises(ConfigError, match=r"^a: it reads values that are no counts of spikes"):
        execute(graph(spiking, fires(4.0), HEAD), np.array([0.3, 1.0]))


def test_a_product_of_spikes_counts_its_sparser_operand_over_all_steps() -> None:
    column = Node("c", "reshape", (2, 1), ("n",), attrs={"shape": [2, 1]})
    row = Node("one", "constant", (1, 4), arrays={"value": np.array([[1, 1, 1, 0]])})
    product = Node("p", "matmul", (2, 4), ("c", "one"), attrs={"kinds": ["spikes", "spikes"]}, layer="p")
    flat = Node("f", "sum", (4,), ("p",), attrs={"axes": [0], "keepdims": False})
    run = execute(graph(CURRENT, fires(), column, row, product, flat, **PIXELS), np.array([1.0, 0.5]))
    assert run.spikes == 2
    assert run.layers["p"].synops == min(2 * 4, 3 * 3 * 2)
    one_sided = replace(product, attrs={"kinds": ["real", "spikes"]})
    run = execute(graph(CURRENT, fires(), column, row, one_sided, flat, **PIXELS), np.array([1.0, 0.5]))
    assert run.layers["p"].synops == 3 * 3 * 2


def test_an_encoded_image_takes_one_operation_per_value_and_weight() -> None:
    encoded = replace(CURRENT, attrs={"fed": "encoded"})
    run = execute(graph(encoded, fires(), HEAD, kind="encoded"), np.array([[0.5, 0.0], [0.25, 3.0], [0.0, 0.0]]))
    assert run.layers["a"].synops == 3 * 2


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the graph reads \[2\]"):
        execute(graph(CURRENT, fires(), HEAD, **PIXELS), np.zeros(3))


def test_the_same_image_gives_the_same_run() -> None:
    built = graph(CURRENT, fires(), HEAD, **PIXELS)
    first, second = (execute(built, np.array([1.1, 0.4]), keep=True) for _ in range(2))
    assert first.layers == second.layers
    assert np.array_equal(first.logits, second.logits)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Node("x", "concat", (4,), ("a", "image"), attrs={"axis": 0}), [2, 3, 2, 1]),
        (Node("x", "slice", (1,), ("a",), attrs={"axis": 0, "start": 1, "stop": 2, "step": 1}), [3]),
        (Node("x", "add", (2,), ("a", "image")), [4, 4]),
        (Node("x", "mask", (2,), ("a", "image"), attrs={"counts": "none"}), [4, 3]),
        (Node("x", "pad", (4,), ("a",), {"value": np.array([7, 0, 0, 9])}, {"widths": [[1, 1]]}), [7, 2, 3, 9]),
        (Node("x", "scale", (2,), ("a",), {"factor": np.array([3]), "offset": np.array(1)}, {"shift": 1}), [4, 6]),
    ],
)
def test_plain_operations(node: Node, expected: list[int]) -> None:
    run = execute(graph(CURRENT, node, **PIXELS), np.array([1.0, 0.5]))
    assert run.logits[0].tolist() == expected
