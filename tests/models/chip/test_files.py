"""Files of a graph: what is written is read back, the same bytes each time, and what is damaged is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip import dense, files
from models.chip.graph import Graph
from models.chip.quantize import Precision, quantize
from tests.support.chip_graphs import attention, convolutions, images

FLOAT = convolutions()
INTEGER = quantize(attention(kind="ilif"), Precision(), (0.0, 1.0))


@pytest.mark.parametrize("graph", [FLOAT, INTEGER], ids=["float", "integer"])
def test_a_graph_is_read_back_as_it_was_written(graph: Graph, tmp_path: Path) -> None:
    files.write(graph, tmp_path)
    again = files.read(tmp_path)
    assert (again.steps, dict(again.meta)) == (graph.steps, dict(graph.meta))
    for node, found in zip(graph, again, strict=True):
        assert (found.name, found.op, found.shape, found.inputs, found.layer) == (
            *(node.name, node.op, node.shape, node.inputs, node.layer),
        )
        assert dict(found.attrs) == dict(node.attrs)
        assert found.arrays.keys() == node.arrays.keys()
        for name, array in node.arrays.items():
            assert found.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[name], array)
    np.testing.assert_array_equal(dense.run(again, images(3)).logits, dense.run(graph, images(3)).logits)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        files.write(quantize(attention(kind="ilif"), Precision(), (0.0, 1.0)), tmp_path / name)
    files.write(files.read(tmp_path / "one"), tmp_path / "read")
    first, *others = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in
                      ("one", "two", "read"))  # fmt: skip
    assert len(first) == 2
    assert all(first == other for other in others)


def test_weights_take_the_bytes_of_their_width(tmp_path: Path) -> None:
    files.write(INTEGER, tmp_path)
    nodes = json.loads((tmp_path / "net.json").read_text())["nodes"]
    kinds = {node["arrays"]["weight"]["dtype"] for node in nodes if "weight" in node["arrays"]}
    assert kinds == {"int8"}


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = json.loads((folder / "net.json").read_text())
        change(document)
        (folder / "net.json").write_text(json.dumps(document))

    return edit


def _append_byte(folder: Path) -> None:
    with (folder / "net.safetensors").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "net.safetensors").unlink(), "net.safetensors: No such file"),
        (lambda folder: (folder / "net.json").write_text("{"), "net.json: damaged graph"),
        (_append_byte, "SHA-256 differs"),
        (_edit(lambda d: d.update(format="onnx")), "not a graph"),
        (_edit(lambda d: d.update(version=2)), r"version must be 1 \(got 2\)"),
        (_edit(lambda d: d.update(more=1)), "must have the keys"),
        (_edit(lambda d: d["nodes"][1].update(op="softmax")), "net.json: conv1: unknown op softmax"),
        (_edit(lambda d: d["nodes"][1].pop("layer")), "conv1: a node must have the keys"),
        (_edit(lambda d: d["nodes"][1].update(shape=[1, 2, 3])), "conv1: its output has the shape"),
        (_edit(lambda d: d["nodes"][1]["arrays"].pop("bias")), "holds conv1/bias, which no node"),
        (_edit(lambda d: d["nodes"][1]["arrays"]["weight"].update(dtype="int8")), "conv1: weight must be a tensor of"),
    ],
)
def test_damaged_files_are_refused(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    files.write(FLOAT, tmp_path)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=message):
        files.read(tmp_path)
