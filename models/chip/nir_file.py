"""A graph as a file of the Neuromorphic Intermediate Representation (NIR, Pedersen et al., Nature Communications 2024).

| here | in NIR |
| --- | --- |
| `conv` of [C, H, W], `linear` of [C] | `Conv2d` (groups written out as zeros), `Affine` |
| `lif`, `plif`, `if` | `LIF`, `IF`, of `DT` seconds a step; they fire above the threshold, so it is a hair lower |
| `add` | several edges into one node, which NIR adds |
| `max_pool` of binary spikes | `SumPool2d` and `Threshold` at 1/2: a maximum of spikes is an OR |
| `sum_pool`, a sum over all positions | `SumPool2d`, and `Flatten` |
| such a sum in front of a `linear` | `AvgPool2d`, with the number of positions in the weights of the `Affine` |
| `scale` | `Scale`, or with an offset a diagonal `Conv2d` or `Affine` |
| all else: products of spikes, integer neurons, transposes, ... | a custom subgraph, `custom.OP.NAME` |

A custom node has inputs, an output and no edges, and its attributes and arrays as metadata. NIR 1.0.8 cannot check
nodes of two inputs, so a graph with custom nodes is read with `nir.read(path, type_check=False)`; others pass the
check. The leaks of integer neurons are rounded in `net.json` only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.ops import Array, Shape

DT = 1e-4
"""Seconds of a step, by the convention of snnTorch and SpikingJelly."""


def write(graph: Graph, path: Path) -> list[str]:
    """Writes a graph, and returns the names of its custom nodes."""
    import nir

    found = to_nir(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    nir.write(path, found)
    return custom_names(found)


def custom_names(found: Any) -> list[str]:
    """Returns the names of the custom nodes of a graph of NIR."""
    return [name for name in found.nodes if name.startswith("custom.")]


def to_nir(graph: Graph) -> Any:
    """Returns the graph as `nir.NIRGraph`. Raises ConfigError for names that NIR's files cannot hold."""
    writer = _Writer(graph)
    for node in graph.nodes:
        if "/" in node.name:
            raise ConfigError(f"{node.name}: names in a NIR file have no /")
        writer.add(node)
    return writer.finish()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        import nir

        self.nir, self.graph = nir, graph
        self.shapes = {node.name: node.shape for node in graph.nodes}
        self.consumers = graph.consumers()
        self.means: dict[str, int] = {}
        """Sums that are written as means, and of how many values."""
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[str, tuple[str, ...]] = {}
        """The NIR nodes whose outputs add up to a node's output."""

    def add(self, node: Node) -> None:
        """Adds the NIR nodes of a node."""
        rules: dict[str, Callable[[Node], bool]] = {
            "input": self._input, "add": self._add, "conv": self._conv, "linear": self._linear,
            "neuron": self._neuron, "max_pool": self._max_pool, "sum_pool": self._sum_pool, "sum": self._sum,
            "scale": self._scale, "reshape": self._reshape, "readout": self._readout,
        }  # fmt: skip
        rule = rules.get(node.op)
        if rule is None or not rule(node):
            self._custom(node)

    def finish(self) -> Any:
        """Returns the graph, type-checked if it has no custom nodes."""
        output, factor = self.graph.output, self.graph.output.arrays.get("factor")
        custom = [name for name in self.nodes if name.startswith("custom.")]
        metadata: dict[str, Any] = {
            "source": "spiking-graph",
            "steps": self.graph.steps,
            "dt": DT,
            "readout": f"mean of the outputs of the first {output.attrs['steps']} steps, times factor",
            "factor": np.ones(output.shape) if factor is None else np.broadcast_to(factor, output.shape).copy(),
            "custom": json.dumps(custom),
        }
        return self.nir.NIRGraph(self.nodes, self.edges, metadata, type_check=not custom)

    def _place(self, name: str, made: Any, sources: tuple[str, ...]) -> str:
        self.nodes[name] = made
        self.edges += [(source, name) for source in sources]
        return name

    def _emit(self, node: Node, made: Any, suffix: str = "") -> bool:
        """Adds a NIR node behind the node's only input, as its output."""
        if node.layer:
            made.metadata = {"layer": node.layer}
        self.sources[node.name] = (self._place(node.name + suffix, made, self.sources[node.inputs[0]]),)
        return True

    def _custom(self, node: Node) -> None:
        ports = ("left", "right") if len(node.inputs) == 2 else [f"input{i or ''}" for i in range(len(node.inputs))]
        inside = {
            port: self.nir.Input(np.array(self.shapes[name])) for port, name in zip(ports, node.inputs, strict=True)
        }
        inside["output"] = self.nir.Output(np.array(node.shape))
        metadata = {"op": node.op, "layer": node.layer, "attrs": json.dumps(dict(sorted(node.attrs.items()))),
                    "inputs": json.dumps([list(self.sources[name]) for name in node.inputs]),
                    **{f"array_{name}": np.atleast_1d(array) for name, array in node.arrays.items()}}  # fmt: skip
        made = self.nir.NIRGraph(inside, [], metadata, type_check=False)
        sources = dict.fromkeys(source for name in node.inputs for source in self.sources[name])
        self.sources[node.name] = (self._place(f"custom.{node.op}.{node.name}", made, tuple(sources)),)

    def _input(self, node: Node) -> bool:
        self.sources[node.name] = (self._place(node.name, self.nir.Input(np.array(node.shape)), ()),)
        return True

    def _add(self, node: Node) -> bool:
        sources = tuple(source for name in node.inputs for source in self.sources[name])
        if len(set(sources)) < len(sources) or any(self.shapes[name] != node.shape for name in node.inputs):
            return False
        self.sources[node.name] = sources
        return True

    def _conv(self, node: Node) -> bool:
        source = self.shapes[node.inputs[0]]
        if len(source) != 3:
            return False
        weight = _ungrouped(node.arrays["weight"], node.attrs["groups"])
        return self._emit(node, self._conv2d(source, weight, node))

    def _conv2d(self, source: Shape, weight: Array, node: Node) -> Any:
        bias = node.arrays.get("bias", np.zeros(len(weight), weight.dtype))
        stride, padding = (
            tuple(node.attrs.get(key, default)) for key, default in (("stride", (1, 1)), ("padding", (0, 0)))
        )
        return self.nir.Conv2d(source[1:], weight, stride, padding, (1, 1), 1, bias)

    def _linear(self, node: Node) -> bool:
        weight = node.arrays["weight"] * self.means.get(node.inputs[0], 1)
        bias = node.arrays.get("bias", np.zeros(len(weight), weight.dtype))
        return len(node.shape) == 1 and self._emit(node, self.nir.Affine(weight, bias))

    def _neuron(self, node: Node) -> bool:
        if node.attrs["kind"] not in ("lif", "plif", "if"):
            return False
        one = np.ones(node.shape)
        threshold = one * _below(node.arrays["threshold"])
        keep, gain = _charge(node)
        if keep == 1.0:
            return self._emit(node, self.nir.IF(one * gain / DT, threshold, 0.0 * one))
        tau = DT / (1.0 - keep)
        return self._emit(node, self.nir.LIF(one * tau, one * gain / (1.0 - keep), 0.0 * one, threshold, 0.0 * one))

    def _max_pool(self, node: Node) -> bool:
        if len(node.shape) != 3 or not self._is_binary(self.graph[node.inputs[0]]):
            return False
        pool = self._place(f"{node.name}.sum", self._pool(node), self.sources[node.inputs[0]])
        found = self.nir.Threshold(np.full(node.shape, 0.5))
        self.sources[node.name] = (self._place(f"{node.name}.any", found, (pool,)),)
        return True

    def _is_binary(self, node: Node) -> bool:
        """Returns whether a node's output is 0 or 1."""
        if node.op == "neuron":
            return bool(node.attrs["levels"] == 1 and node.attrs["kind"] != "ternary")
        return node.op in ("max_pool", "reshape", "transpose", "slice") and self._is_binary(self.graph[node.inputs[0]])

    def _pool(self, node: Node) -> Any:
        return self.nir.SumPool2d(*(np.array(node.attrs[key]) for key in ("kernel", "stride", "padding")))

    def _sum_pool(self, node: Node) -> bool:
        return len(node.shape) == 3 and self._emit(node, self._pool(node))

    def _sum(self, node: Node) -> bool:
        source = self.shapes[node.inputs[0]]
        if len(source) != 3 or {axis % 3 for axis in node.attrs["axes"]} != {1, 2} or node.layer:
            return False
        size, zero = np.array(source[1:]), np.zeros(2, int)
        readers = self.consumers[node.name]
        if not node.attrs["keepdims"] and [reader.op for reader in readers] == ["linear"]:
            self._emit(node, self.nir.AvgPool2d(size, size, zero))
            self.means[node.name] = int(size.prod())
        else:
            self._emit(node, self.nir.SumPool2d(size, size, zero))
        return node.attrs["keepdims"] or self._flatten(node, (source[0], 1, 1), 0)

    def _scale(self, node: Node) -> bool:
        source, (factor, offset) = self.shapes[node.inputs[0]], (node.arrays["factor"], node.arrays.get("offset"))
        if source != node.shape or node.attrs.get("shift", 0):
            return False
        if offset is None:
            return self._emit(node, self.nir.Scale(np.broadcast_to(factor, node.shape).astype(np.float64)))
        if len(source) not in (1, 3):
            return False
        channels = (source[0], *(1 for _ in source[1:]))
        if any(np.broadcast_shapes(array.shape, channels) != channels for array in (factor, offset)):
            return False
        diagonal = np.diag(np.broadcast_to(factor, channels).ravel())
        bias = np.broadcast_to(offset, channels).ravel().copy()
        if len(source) == 1:
            return self._emit(node, self.nir.Affine(diagonal, bias))
        return self._emit(
            node, self.nir.Conv2d(source[1:], diagonal[:, :, None, None], (1, 1), (0, 0), (1, 1), 1, bias)
        )

    def _reshape(self, node: Node) -> bool:
        source = self.shapes[node.inputs[0]]
        if source == node.shape:
            self.sources[node.name] = self.sources[node.inputs[0]]
            return True
        for start in range(len(source) - 1):
            if (*source[:start], int(np.prod(source[start:]))) == node.shape:
                return self._emit(node, self.nir.Flatten({"input": np.array(source)}, start, -1))
        return False

    def _flatten(self, node: Node, source: Shape, start: int) -> bool:
        """Adds a Flatten behind the node's own output."""
        made = self.nir.Flatten({"input": np.array(source)}, start, -1)
        self.sources[node.name] = (self._place(f"{node.name}.flat", made, self.sources[node.name]),)
        return True

    def _readout(self, node: Node) -> bool:
        self._place("output", self.nir.Output(np.array(node.shape)), self.sources[node.inputs[0]])
        return True


def _ungrouped(weight: Array, groups: int) -> Array:
    """Returns the weights of a grouped convolution as those of a plain one: NIR 1.0.8 misreads groups' channels."""
    if groups == 1:
        return weight
    outputs, each, *kernel = weight.shape
    full = np.zeros((outputs, each * groups, *kernel), weight.dtype)
    size = outputs // groups
    for i in range(groups):
        full[i * size : (i + 1) * size, i * each : (i + 1) * each] = weight[i * size : (i + 1) * size]
    return full


def _below(threshold: Array) -> Array:
    """Returns thresholds that are exceeded where the given ones are reached."""
    if np.issubdtype(threshold.dtype, np.integer):
        return threshold - 0.5
    below: Array = np.nextafter(threshold, -np.inf)
    return below


def _charge(node: Node) -> tuple[float, float]:
    """Returns the share of the membrane that a step keeps, and the factor on the current."""
    attrs = node.attrs
    if node.is_integer:
        return attrs.get("keep_numerator", 1) / 2 ** attrs.get("keep_shift", 0), 1.0
    if attrs["kind"] == "if":
        return 1.0, 1.0
    rate = 1.0 / attrs["tau"] if attrs["kind"] == "lif" else attrs["decay"]
    return 1.0 - rate, rate
