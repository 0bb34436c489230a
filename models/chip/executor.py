"""Execution of a graph for one image, in numpy, event by event, with all operations counted as they are made.

Float64 and integer graphs run through the same code. Nodes without state whose inputs do not change are executed once:
those before the first neurons of a still image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.machine import events
from models.chip.machine.events import Sides
from models.chip.machine.neurons import rounded_shift, saturate, step
from models.chip.ops import Array


@dataclass
class LayerCount:
    """What a layer did for one image, over all steps."""

    spikes: int = 0
    """Spikes of either sign; a count of k is k spikes."""
    synops: int = 0
    """Additions made. A product of spikes with spikes is computed from either side, and the smaller number counts."""
    macs: int = 0
    """Multiplications of a layer that reads real values, zeros and padding included."""
    saturated: int = 0
    """Values that did not fit into their bits."""
    peak: float = 0.0
    """The largest |membrane| before a reset, or the largest |sum| of a weighted layer."""


@dataclass(frozen=True)
class Run:
    """The result of one image."""

    logits: Array
    """Of each step, [T, K]; in a quantised graph integers times the readout's factor."""
    layers: dict[str, LayerCount]
    """By the dotted name of the model's module, in the order of execution."""
    outputs: dict[str, Array]
    """Of each node of neurons at every step, [T, ...], or of the nodes asked for."""
    read_steps: int

    @property
    def readout(self) -> Array:
        """Returns the mean logits over the steps that are read, [K]."""
        mean: Array = self.logits[: self.read_steps].mean(0)
        return mean

    @property
    def spikes(self) -> int:
        return sum(layer.spikes for layer in self.layers.values())

    @property
    def synops(self) -> int:
        return sum(layer.synops for layer in self.layers.values())


class Executor:
    """Executes a graph on any number of images, one after the other."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tables = {node.name: _table(node) for node in graph.nodes if "weight" in node.arrays}
        """The weights of each layer, in the order in which events read them."""
        self.constant: set[str] = set()
        """The nodes whose output is that of the first step at every step."""
        for node in graph.nodes:
            has_state = node.op in ("neuron", "readout") or (node.op == "input" and node.attrs["kind"] != "image")
            if not has_state and self.constant.issuperset(node.inputs):
                self.constant.add(node.name)

    def run(self, image: Array, *, keep: bool = False) -> Run:
        """Returns the run on one image: [C, H, W], or one such map per step, [T, C, H, W].

        A graph for still images takes the first form, one for events or encoded images the second. `keep` stores the
        outputs of all neurons. Raises ConfigError for an image of another shape, and for a layer fed spikes that reads
        values which are no counts.
        """
        shape, is_still = self.graph.input.shape, self.graph.input.attrs["kind"] == "image"
        expected = shape if is_still else (self.graph.steps, *shape)
        if image.shape != expected:
            raise ConfigError(f"the graph reads {list(expected)} (got an image of {list(image.shape)})")
        return _Pass(self, keep).run([image] * self.graph.steps if is_still else list(image))


def execute(graph: Graph, image: Array, *, keep: bool = False) -> Run:
    """Returns the run of a graph on one image; see `Executor`, which is faster for several."""
    return Executor(graph).run(image, keep=keep)


def _table(node: Node) -> Array:
    weight = node.arrays["weight"]
    return events.by_input(weight, node.attrs["groups"]) if node.op == "conv" else events.by_column(weight)


@dataclass
class _Additions:
    """Additions of a product from the spikes of either side."""

    left: float = 0.0
    right: float = 0.0


@dataclass
class _Pass:
    """The state of one image's execution."""

    executor: Executor
    keep: bool
    layers: dict[str, LayerCount] = field(default_factory=dict)
    membranes: dict[str, Array] = field(default_factory=dict)
    products: dict[str, _Additions] = field(default_factory=dict)
    outputs: dict[str, list[Array]] = field(default_factory=dict)

    def run(self, frames: list[Array]) -> Run:
        graph, values, logits = self.executor.graph, dict[str, Array](), []
        for t, frame in enumerate(frames):
            for node in graph.nodes:
                if t and node.name in self.executor.constant:
                    continue
                inputs = [frame] if node.op == "input" else [values[name] for name in node.inputs]
                values[node.name] = RULES[node.op](self, node, inputs)
            logits.append(values[graph.output.name])
        for name, additions in self.products.items():
            self.layers[name].synops = _whole(name, min(additions.left, additions.right))
        kept = {name: np.stack(steps) for name, steps in self.outputs.items()}
        return Run(np.stack(logits), self.layers, kept, graph.output.attrs["steps"])

    def count(self, node: Node) -> LayerCount:
        """Returns the counts of the node's layer; those of a node without one go nowhere."""
        return self.layers.setdefault(node.layer, LayerCount()) if node.layer else LayerCount()

    def weighted(self, node: Node, out: Array, additions: float, dense: int) -> Array:
        """Adds the bias, and counts the operations of a layer with weights."""
        count, fed = self.count(node), node.attrs["fed"]
        if fed == "real":
            # A classifier of real values reads their mean, as it could: it is linear, so it counts once.
            count.macs = dense if node.op == "linear" else count.macs + dense
        else:
            count.synops += _whole(node.name, additions)
        if "bias" in node.arrays:
            bias = node.arrays["bias"]
            out = out + (bias[:, None, None] if node.op == "conv" else bias)
        out, saturated = saturate(out, node.attrs.get("bits"))
        count.saturated += saturated
        count.peak = max(count.peak, float(np.abs(out).max(initial=0)))
        return out


Rule = Callable[[_Pass, Node, list[Array]], Array]


def _whole(name: str, additions: float) -> int:
    if additions != round(additions):
        raise ConfigError(f"{name}: it reads values that are no counts of spikes, {additions} additions in a step")
    return round(additions)


def _sides(node: Node) -> Sides:
    if node.op == "conv":
        height, width = node.arrays["weight"].shape[2:]
        kernel = (height, width)
    else:
        kernel = tuple(node.attrs["kernel"])
    return Sides(kernel, tuple(node.attrs["stride"]), tuple(node.attrs["padding"]))


def _input(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    if "scale" not in node.attrs:
        return x.astype(np.float64)
    quantised: Array = np.clip(np.rint(x / node.attrs["scale"]), node.attrs["lowest"], node.attrs["largest"])
    return quantised.astype(np.int64)


def _weights(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    out, additions = _weighted_sum(state, node, x)
    if node.attrs["fed"] == "encoded":  # a spike of any value is one operation
        _, additions = _weighted_sum(state, node, (x != 0).astype(x.dtype))
    return state.weighted(node, out, additions, node.arrays["weight"][0].size * out.size)


def _weighted_sum(state: _Pass, node: Node, x: Array) -> tuple[Array, float]:
    table = state.executor.tables[node.name]
    return events.linear(x, table) if node.op == "linear" else events.conv(x, table, _sides(node), node.attrs["groups"])


def _matmul(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    a, b = inputs
    sides, out = state.products.setdefault(node.layer, _Additions()), a
    state.count(node)
    left, right = (kind != "real" for kind in node.attrs["kinds"])
    if left:
        out, additions = events.product(a, b)
        sides.left += additions
    if right:
        out, additions = events.product_by_right(a, b)
        sides.right += additions
    sides.left += 0.0 if left else np.inf
    sides.right += 0.0 if right else np.inf
    return out


def _mask(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    a, b = inputs
    out: Array = a * b
    counted = {"passed": out, "left": a}.get(node.attrs["counts"])
    if counted is not None:
        state.count(node).synops += _whole(node.name, float(np.abs(counted).sum()))
    return out


def _sum(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    out: Array = x.sum(tuple(node.attrs["axes"]), keepdims=node.attrs["keepdims"])
    if node.layer:
        state.count(node).synops += _whole(node.name, float(np.abs(x).sum()))
    return out


def _scale(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    out: Array = rounded_shift(inputs[0] * node.arrays["factor"], node.attrs.get("shift", 0))
    return out + node.arrays["offset"] if "offset" in node.arrays else out


def _pad(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    out = np.zeros(node.shape, x.dtype)
    if "value" in node.arrays:
        out = out + node.arrays["value"].astype(x.dtype)
    inside = tuple(
        slice(before, before + size) for (before, _), size in zip(node.attrs["widths"], x.shape, strict=True)
    )
    out[inside] = x
    return out


def _add(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    out = inputs[0]
    for x in inputs[1:]:
        out = out + x
    return out


def _slice(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    axis, attrs = node.attrs["axis"], node.attrs
    part: Array = inputs[0][(slice(None),) * axis + (slice(attrs["start"], attrs["stop"], attrs["step"]),)]
    return part


def _neuron(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    v = state.membranes.get(node.name)
    result = step(node, x, np.zeros_like(x) if v is None else v)
    state.membranes[node.name] = result.membrane
    count = state.count(node)
    count.spikes += int(np.abs(result.output).sum())
    count.saturated += result.saturated
    count.peak = max(count.peak, float(np.abs(result.charged).max(initial=0)))
    if state.keep:
        state.outputs.setdefault(node.name, []).append(result.output)
    return result.output


def _readout(state: _Pass, node: Node, inputs: list[Array]) -> Array:
    (x,) = inputs
    out: Array = x * node.arrays["factor"] if "factor" in node.arrays else x
    return out


RULES: dict[str, Rule] = {
    "input": _input,
    "constant": lambda state, node, inputs: node.arrays["value"],
    "conv": _weights,
    "linear": _weights,
    "matmul": _matmul,
    "mask": _mask,
    "sum": _sum,
    "max_pool": lambda state, node, inputs: events.max_pool(inputs[0], _sides(node)),
    "sum_pool": lambda state, node, inputs: events.sum_pool(inputs[0], _sides(node)),
    "add": _add,
    "scale": _scale,
    "reshape": lambda state, node, inputs: inputs[0].reshape(node.shape),
    "transpose": lambda state, node, inputs: inputs[0].transpose(node.attrs["axes"]),
    "slice": _slice,
    "concat": lambda state, node, inputs: np.concatenate(inputs, node.attrs["axis"]),
    "pad": _pad,
    "neuron": _neuron,
    "readout": _readout,
}
"""How a node of each operation is executed."""
