"""A graph on a batch of images by matrix products: fast, and exact for integers, but nothing is counted.

The machine that visits spikes and counts is `models.chip.executor`; this one gives its integers for many images.
Arrays are float64, which hold all integers below 2^53, and have the shape [B, ...] of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.ops import Array
from models.chip.steps import levels

EXACT_BITS = 52


@dataclass
class Batch:
    """What a graph gives for a batch: logits of each step, and the outputs of each neuron node, [T, B, ...] as int8."""

    step_logits: Array
    """[T, B, K]"""
    read_steps: int
    spikes: dict[str, Array] = field(default_factory=dict)

    @property
    def logits(self) -> Array:
        """Returns the mean logits over the steps that are read, [B, K]."""
        mean: Array = self.step_logits[: self.read_steps].mean(0)
        return mean


def run(graph: Graph, images: Array) -> Batch:
    """Returns the outputs for images [B, C, H, W], or sequences [B, T, C, H, W] of events or encoded images.

    Raises ConfigError if the graph's integers could leave the range where float64 is exact.
    """
    _check_widths(graph)
    arrays = {node.name: {key: value.astype(np.float64) for key, value in node.arrays.items()} for node in graph.nodes}
    is_sequence = images.ndim == len(graph.input.shape) + 2
    membranes: dict[str, Array] = {}
    spikes: dict[str, list[Array]] = {node.name: [] for node in graph.nodes if node.op == "neuron"}
    logits: list[Array] = []
    for step in range(graph.steps):
        now = (images[:, step] if is_sequence else images).astype(np.float64)
        values = _step(graph, arrays, now, membranes)
        for name, found in spikes.items():
            found.append(values[name].astype(np.int8))
        logits.append(values[graph.output.inputs[0]])
    factor = arrays[graph.output.name].get("factor", np.float64(1.0))
    outputs = {name: np.stack(found) for name, found in spikes.items()}
    return Batch(np.stack(logits) * factor, int(graph.output.attrs["steps"]), outputs)


def _check_widths(graph: Graph) -> None:
    for node in graph.nodes:
        if node.attrs.get("bits", 0) + node.attrs.get("keep_shift", 0) > EXACT_BITS:
            raise ConfigError(f"{node.name}: membranes of {node.attrs['bits']} bits are not exact in float64")


Arrays = Mapping[str, Array]


def _step(graph: Graph, arrays: Mapping[str, Arrays], image: Array, membranes: dict[str, Array]) -> dict[str, Array]:
    """Returns the values of all nodes at one step, and updates the membranes."""
    values: dict[str, Array] = {}
    for node in graph.nodes[:-1]:
        inputs = [values[name] for name in node.inputs]
        if node.op == "input":
            values[node.name] = _input(node, image)
        elif node.op == "neuron":
            before = membranes.get(node.name, np.zeros_like(inputs[0]))
            values[node.name], membranes[node.name] = _neuron(node, arrays[node.name], inputs[0], before)
        elif node.op == "constant":
            values[node.name] = np.broadcast_to(arrays[node.name]["value"], (len(image), *node.shape))
        else:
            values[node.name] = _saturated(node, _RULES[node.op](node, arrays[node.name], inputs))
    return values


def _input(node: Node, image: Array) -> Array:
    if "scale" not in node.attrs:
        return image
    quantized: Array = np.clip(np.rint(image / node.attrs["scale"]), node.attrs["lowest"], node.attrs["largest"])
    return quantized


def _saturated(node: Node, x: Array) -> Array:
    bits = node.attrs.get("bits")
    return x if bits is None else np.clip(x, *levels(bits))


def _axis(node: Node, axis: int) -> int:
    """Returns an axis of a step's output in the batch."""
    return axis % len(node.shape) + 1


def _windows(node: Node, x: Array, kernel: tuple[int, ...], outside: float) -> Array:
    """Returns the windows of maps [..., H, W], [..., H', W', kh, kw], padded with a value."""
    (top, left), (down, across) = node.attrs["padding"], node.attrs["stride"]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(top, top), (left, left)], constant_values=outside)
    return sliding_window_view(padded, kernel, (-2, -1))[..., ::down, ::across, :, :]


def _conv(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    weight, groups = arrays["weight"], node.attrs["groups"]
    x = inputs[0].reshape(-1, *inputs[0].shape[-3:])
    windows = _windows(node, x, weight.shape[2:], 0.0)
    maps, channels, height, width, *kernel = windows.shape
    columns = windows.reshape(maps, groups, channels // groups, height, width, *kernel)
    columns = columns.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, maps * height * width, -1)
    out = columns @ weight.reshape(groups, len(weight) // groups, -1).transpose(0, 2, 1)
    out = out.reshape(groups, maps, height, width, -1).transpose(1, 0, 4, 2, 3).reshape(maps, -1, height, width)
    if "bias" in arrays:
        out = out + arrays["bias"][:, None, None]
    return out.reshape(-1, *node.shape)


def _linear(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    out: Array = inputs[0] @ arrays["weight"].T
    return out + arrays["bias"] if "bias" in arrays else out


def _max_pool(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    found: Array = _windows(node, inputs[0], tuple(node.attrs["kernel"]), -np.inf).max((-2, -1))
    return found


def _sum_pool(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    found: Array = _windows(node, inputs[0], tuple(node.attrs["kernel"]), 0.0).sum((-2, -1))
    return found


def _aligned(inputs: list[Array]) -> list[Array]:
    """Returns the inputs with as many axes each, which numpy would otherwise add in front of the batch."""
    axes = max(x.ndim for x in inputs)
    return [x.reshape(len(x), *(1,) * (axes - x.ndim), *x.shape[1:]) for x in inputs]


def _add(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    first, *others = _aligned(inputs)
    return sum(others, first)


def _mask(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    left, right = _aligned(inputs)
    return left * right


def _matmul(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    left, right = _aligned(inputs)
    product: Array = left @ right
    return product


def _scale(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    product = _shifted(inputs[0] * arrays["factor"], node.attrs.get("shift", 0))
    return product + arrays["offset"] if "offset" in arrays else product


def _sum(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    axes = tuple(axis % (inputs[0].ndim - 1) + 1 for axis in node.attrs["axes"])
    total: Array = inputs[0].sum(axes, keepdims=node.attrs["keepdims"])
    return total


def _slice(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    attrs = node.attrs
    return inputs[0].take(range(attrs["start"], attrs["stop"], attrs["step"]), _axis(node, attrs["axis"]))


def _pad(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    widths = [(0, 0), *map(tuple, node.attrs["widths"])]
    padded = np.pad(inputs[0], widths)
    if "value" not in arrays:
        return padded
    inside = np.pad(np.ones(inputs[0].shape[1:], bool), widths[1:])
    return np.where(inside, padded, arrays["value"])


def _transpose(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    return inputs[0].transpose(0, *(_axis(node, axis) for axis in node.attrs["axes"]))


def _reshape(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    return inputs[0].reshape(len(inputs[0]), *node.shape)


def _concat(node: Node, arrays: Arrays, inputs: list[Array]) -> Array:
    return np.concatenate(inputs, _axis(node, node.attrs["axis"]))


_RULES: dict[str, Callable[[Node, Arrays, list[Array]], Array]] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "mask": _mask,
    "sum": _sum,
    "max_pool": _max_pool,
    "sum_pool": _sum_pool,
    "add": _add,
    "scale": _scale,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
}


def _neuron(node: Node, arrays: Arrays, x: Array, v: Array) -> tuple[Array, Array]:
    """Returns the output and the membrane after the reset."""
    kind, threshold, most = node.attrs["kind"], arrays["threshold"], node.attrs["levels"]
    h = _saturated(node, _charge(node, x, v))
    if kind == "ternary":
        spikes = 1.0 * (h >= threshold) - 1.0 * (h <= -node.attrs["low_threshold"])
    elif kind in ("ilif", "ielif"):
        counts = np.clip(h / threshold, 0, most)
        spikes = np.rint(counts) if kind == "ilif" else np.floor(counts + 0.5)
    else:
        spikes = 1.0 * (h >= threshold)
    if kind == "ielif":
        return spikes, np.zeros_like(h)
    return spikes, h - spikes * threshold if kind == "ilif" else h * (spikes == 0.0)


def _charge(node: Node, x: Array, v: Array) -> Array:
    attrs = node.attrs
    charged: Array
    if "keep_numerator" in attrs:
        charged = _shifted(v * attrs["keep_numerator"], attrs["keep_shift"]) + x
    elif attrs["kind"] == "ielif":
        charged = x
    elif "tau" in attrs:
        charged = v + (x - v) / attrs["tau"]
    elif "decay" in attrs:
        charged = v + (x - v) * attrs["decay"]
    else:
        charged = attrs.get("keep", 1.0) * v + x
    return charged


def _shifted(x: Array, shift: int) -> Array:
    """Returns round(x / 2^shift), halves rounded up."""
    return x if shift == 0 else np.floor((x + 2 ** (shift - 1)) / 2**shift)
