"""Files of NIR, read by NIR's own reader: weights, types and shapes are those of the graph."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip.graph import Graph
from models.chip.quantize import Precision, quantize
from tests.support.chip_graphs import Builder, attention, convolutions

nir = pytest.importorskip("nir")
nir_file = pytest.importorskip("models.chip.nir_file")


def plain(kind: str = "lif") -> Graph:
    """Returns a graph whose operations all have types in NIR."""
    return convolutions(kind=kind)


def written(graph: Graph, folder: Path, *, check: bool = True) -> Any:
    nir_file.write(graph, folder / "net.nir")
    return nir.read(folder / "net.nir", type_check=check)


@pytest.mark.parametrize("kind", ["lif", "plif", "if"])
def test_a_graph_without_attention_passes_the_readers_type_check(kind: str, tmp_path: Path) -> None:
    found = written(plain(kind), tmp_path)
    assert nir_file.custom_names(found) == []
    assert {type(node).__name__ for node in found.nodes.values()} == {
        *("Input", "Output", "Conv2d", "Affine", "SumPool2d", "Threshold", "Scale", "Flatten"),
        "IF" if kind == "if" else "LIF",
    }


def test_weights_and_shapes_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = plain()
    found = written(graph, tmp_path)
    for node in graph:
        if node.op == "conv" and node.attrs["groups"] == 1:
            np.testing.assert_array_equal(found.nodes[node.name].weight, node.arrays["weight"])
            np.testing.assert_array_equal(found.nodes[node.name].bias, node.arrays["bias"])
        if node.op in ("conv", "neuron"):
            np.testing.assert_array_equal(found.nodes[node.name].output_type["output"], node.shape)
    np.testing.assert_array_equal(found.nodes["head"].weight, graph["head"].arrays["weight"])
    assert found.metadata["steps"] == graph.steps


def test_groups_are_written_out(tmp_path: Path) -> None:
    graph = plain()
    weight = graph["conv2"].arrays["weight"]  # 2 groups of 4
    full = written(graph, tmp_path).nodes["conv2"].weight
    np.testing.assert_array_equal(full[:4, :4], weight[:4])
    np.testing.assert_array_equal(full[4:, 4:], weight[4:])
    assert not full[:4, 4:].any()
    assert not full[4:, :4].any()


def test_sums_are_edges_into_one_node(tmp_path: Path) -> None:
    edges = written(plain(), tmp_path).edges
    assert {source for source, target in edges if target == "conv3"} == {"pool.any", "fire2"}


@pytest.mark.parametrize("kind", ["lif", "plif", "if"])
def test_a_step_of_euler_gives_the_membranes_of_the_graph(kind: str, tmp_path: Path) -> None:
    node = written(plain(kind), tmp_path).nodes["fire1"]
    current, before = 0.7, 0.4
    if kind == "if":
        charged = before + nir_file.DT * node.r * current
    else:
        charged = before + nir_file.DT / node.tau * (node.v_leak - before + node.r * current)
    expected = {"lif": before + (current - before) / 2.0, "plif": before + (current - before) * 0.3,
                "if": before + current}[kind]  # fmt: skip
    np.testing.assert_allclose(charged, expected, rtol=1e-12)
    assert (node.v_threshold < 1.0).all()
    np.testing.assert_allclose(node.v_threshold, 1.0)


def test_integers_stay_integers_and_thresholds_lie_between_them(tmp_path: Path) -> None:
    graph = quantize(convolutions(kind="if"), Precision(), (0.0, 1.0))
    found = written(graph, tmp_path)
    np.testing.assert_array_equal(found.nodes["conv1"].weight, graph["conv1"].arrays["weight"])
    thresholds = np.broadcast_to(graph["fire1"].arrays["threshold"], graph["fire1"].shape)
    np.testing.assert_array_equal(found.nodes["fire1"].v_threshold, thresholds - 0.5)


def test_products_are_custom_nodes_with_their_shapes(tmp_path: Path) -> None:
    graph = attention()
    with pytest.raises(ValueError, match="type"):
        written(graph, tmp_path)
    found = written(graph, tmp_path, check=False)
    product = found.nodes["custom.matmul.inner"]
    np.testing.assert_array_equal(product.nodes["left"].input_type["input"], graph["k.heads"].shape)
    np.testing.assert_array_equal(product.nodes["right"].input_type["input"], graph["v.tokens"].shape)
    np.testing.assert_array_equal(product.nodes["output"].output_type["output"], graph["inner"].shape)
    assert product.metadata["op"] == "matmul"
    assert json.loads(product.metadata["attrs"]) == {"kinds": ["spikes", "spikes"]}
    assert sorted(json.loads(found.metadata["custom"])) == sorted(nir_file.custom_names(found))


def test_neurons_of_counts_are_custom_and_keep_their_thresholds(tmp_path: Path) -> None:
    found = written(convolutions(kind="ilif"), tmp_path, check=False)
    assert found.nodes["custom.neuron.fire1"].metadata["array_threshold"] == 1.0


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.nir", "two.nir"):
        nir_file.write(attention(), tmp_path / name)
    assert (tmp_path / "one.nir").read_bytes() == (tmp_path / "two.nir").read_bytes()


def test_a_name_that_files_cannot_hold_is_refused() -> None:
    build = Builder(0, steps=4)
    build.nodes = [replace(node, name="stem/fire") if node.name == "fire1" else node for node in plain().nodes[:3]]
    with pytest.raises(ConfigError, match="stem/fire: names in a NIR file have no /"):
        nir_file.to_nir(build.graph("stem/fire", 8))
