"""A graph as two files: `net.json` (nodes, in the order of execution) and `net.safetensors` (their arrays).

The same graph gives the same bytes. Integers are stored in the smallest type that holds all of an array, and read as
int64. A tensor is named `node/array`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from config.errors import ConfigError
from config.files import write_atomic
from models.chip.graph import Graph, Node
from models.chip.ops import Array

FORMAT, VERSION = "spiking-graph", 1
NAME = "net"
KEYS = ("format", "version", "tensors", "steps", "meta", "nodes")
NODE_KEYS = ("name", "op", "shape", "inputs", "layer", "attrs", "arrays")
INTEGERS = (np.int8, np.int16, np.int32, np.int64)


def write(graph: Graph, folder: Path) -> list[Path]:
    """Writes both files of a graph into a folder, which is made if necessary, and returns their paths."""
    tensors = {
        f"{node.name}/{name}": _compact(array) for node in graph.nodes for name, array in sorted(node.arrays.items())
    }
    content = save(tensors)
    paths = [folder / f"{NAME}.json", folder / f"{NAME}.safetensors"]
    write_atomic(paths[1], content)
    write_atomic(paths[0], _text(graph, tensors, hashlib.sha256(content).hexdigest()))
    return paths


def read(folder: Path) -> Graph:
    """Returns the graph of a folder's files.

    Raises ConfigError that names the file, and the node where it is one's, unless they are whole, of this version, and
    every node has what its operation needs.
    """
    path, weights = folder / f"{NAME}.json", folder / f"{NAME}.safetensors"
    try:
        document = _document(path)
        tensors = _tensors(weights, document["tensors"])
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; a graph has {path.name} and {weights.name}") from None
    nodes = tuple(_node(path, entry, tensors) for entry in document["nodes"])
    if tensors:
        raise ConfigError(f"{weights}: holds {next(iter(tensors))}, which no node of {path.name} has")
    try:
        return Graph(nodes, document["steps"], document["meta"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _compact(array: Array) -> Array:
    """Returns integers in the smallest type that holds them, and float64 as it is."""
    if not np.issubdtype(array.dtype, np.integer):
        return np.array(array, order="C")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    fits = next(kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.array(array, dtype=fits, order="C")


def _text(graph: Graph, tensors: Mapping[str, Array], digest: str) -> str:
    """Returns the JSON document, one line a node."""
    head = {"format": FORMAT, "version": VERSION, "tensors": digest, "steps": graph.steps, "meta": dict(graph.meta)}
    lines = [f' "{key}": {_json(value)},' for key, value in head.items()]
    nodes = ",\n".join(f"  {_json(_entry(node, tensors))}" for node in graph.nodes)
    return "\n".join(["{", *lines, ' "nodes": [', nodes, " ]", "}", ""])


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _entry(node: Node, tensors: Mapping[str, Array]) -> dict[str, Any]:
    arrays = {
        name: {"dtype": str(tensors[f"{node.name}/{name}"].dtype), "shape": list(array.shape)}
        for name, array in sorted(node.arrays.items())
    }
    attrs = dict(sorted(node.attrs.items()))
    values = (node.name, node.op, list(node.shape), list(node.inputs), node.layer, attrs, arrays)
    return dict(zip(NODE_KEYS, values, strict=True))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: damaged graph ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigError(f"{path}: not a graph; its format must be {FORMAT!r}")
    if document.get("version") != VERSION:
        raise ConfigError(f"{path}: version must be {VERSION} (got {document.get('version')!r})")
    if set(document) != set(KEYS):
        raise ConfigError(f"{path}: must have the keys {', '.join(KEYS)} (got {', '.join(document)})")
    return document


def _tensors(path: Path, digest: str) -> dict[str, Array]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ConfigError(f"{path}: is not the file that {NAME}.json was written with (its SHA-256 differs)")
    try:
        return load(content)
    except SafetensorError as error:
        raise ConfigError(f"{path}: damaged tensors ({error})") from None


def _node(path: Path, entry: Any, tensors: dict[str, Array]) -> Node:
    """Returns a node, and takes its arrays out of `tensors`."""
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or set(entry) != set(NODE_KEYS):
        raise ConfigError(f"{path}: {name}: a node must have the keys {', '.join(NODE_KEYS)}")
    arrays = {}
    for key, described in entry["arrays"].items():
        array = tensors.pop(f"{name}/{key}", None)
        found = None if array is None else {"dtype": str(array.dtype), "shape": list(array.shape)}
        if array is None or found != described:
            raise ConfigError(f"{path}: {name}: {key} must be a tensor of {described} (got {found})")
        arrays[key] = array.astype(np.int64) if np.issubdtype(array.dtype, np.integer) else array
    shape, inputs = tuple(entry["shape"]), tuple(entry["inputs"])
    return Node(entry["name"], entry["op"], shape, inputs, arrays, entry["attrs"], entry["layer"])
