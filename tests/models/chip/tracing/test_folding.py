"""Scales behind convolutions disappear into their weights, without a change of what is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from models.chip.executor import execute
from models.chip.graph import Graph, Node
from models.chip.tracing.folding import folded, used

RNG = np.random.default_rng(0)
IMAGE = Node("image", "input", (2, 4, 4), attrs={"shape": [2, 4, 4], "kind": "image"})
CONV = Node(
    "conv",
    "conv",
    (3, 4, 4),
    ("image",),
    {"weight": RNG.standard_normal((3, 2, 3, 3)), "bias": RNG.standard_normal(3)},
    {"stride": [1, 1], "padding": [1, 1], "groups": 1, "fed": "real"},
    layer="conv",
)


def scale(name: str, source: str, **arrays: tuple[int, ...]) -> Node:
    return Node(name, "scale", (3, 4, 4), (source,), {key: RNG.standard_normal(shape) for key, shape in arrays.items()})


def readout(source: str) -> Node:
    return Node("out", "readout", (3, 4, 4), (source,), attrs={"steps": 1})


def run(nodes: list[Node]) -> np.ndarray:
    image = np.random.default_rng(1).standard_normal((2, 4, 4))
    return execute(Graph(tuple(nodes), 1), image).logits


@pytest.mark.parametrize(
    "nodes",
    [
        [IMAGE, CONV, scale("bn", "conv", factor=(3, 1, 1), offset=(3, 1, 1)), readout("bn")],
        [IMAGE, replace(CONV, arrays={"weight": CONV.arrays["weight"]}), scale("bn", "conv", factor=()), readout("bn")],
        [IMAGE, CONV, scale("a", "conv", factor=()), scale("b", "a", factor=(3, 1, 1), offset=()), readout("b")],
    ],
)
def test_scales_of_channels_become_weights_and_biases(nodes: list[Node]) -> None:
    found = folded(nodes)
    assert [node.op for node in found] == ["input", "conv", "readout"]
    assert np.allclose(run(found), run(nodes), rtol=1e-12)


@pytest.mark.parametrize(
    "build",
    [
        lambda: [scale("bn", "conv", factor=(4, 4)), readout("bn")],
        lambda: [
            scale("bn", "conv", factor=(3, 1, 1)),
            Node("sum", "add", (3, 4, 4), ("conv", "bn")),
            readout("sum"),
        ],
    ],
)
def test_a_scale_within_a_map_or_beside_another_reader_stays(build: Callable[[], list[Node]]) -> None:
    nodes = [IMAGE, CONV, *build()]
    assert folded(nodes) == nodes


def test_nodes_that_nothing_reads_go_unless_they_count() -> None:
    unread = Node("moved", "transpose", (4, 4, 2), ("image",), attrs={"axes": [1, 2, 0]})
    counted = replace(CONV, name="side", layer="side")
    nodes = [IMAGE, unread, counted, CONV, readout("conv")]
    assert [node.name for node in used(nodes)] == ["image", "side", "conv", "out"]
