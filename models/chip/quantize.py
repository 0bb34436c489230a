"""Quantisation of a graph: weights, biases, thresholds and leaks as integers, without data.

Every value has a scale (`models.chip.scales`), which weights, thresholds and the readout absorb:

- Weights have one step per output channel. The scale of the input is part of the weights.
- A threshold is `ceil(threshold gain / scale)`, for each channel, where `gain` is tau: with `tau V` as the membrane,
  the charge needs no product with 1/tau. A leak is `numerator / 2^shift`.
- A sum needs one scale. The layers that feed it get steps that are powers of two, so that its inputs are shifted;
  inputs of other scales are multiplied by integers of 8 bits or more.
- Values of a coarse scale are shifted left in front of neurons, so that thresholds and leaks can be fine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.ops import Array
from models.chip.scales import MOVES, aligned, compress, moved, ones, uniform
from models.chip.steps import choose_steps, levels, rounded

MIN_BITS, MAX_BITS = 4, 16
FINE_BITS = 8
"""Weights of fewer bits are shifted left by the difference, for finer biases and thresholds."""
THRESHOLD_BITS = 9
"""Least width of the thresholds of neurons with a leak."""
MULTIPLIER_BITS = 8
"""Least width of factors that are no whole numbers."""
LEAK_SHIFT = 15
"""Largest k of a leak `numerator / 2^k`."""
HEADROOM_BITS = 8
"""Bits of a membrane above its threshold and biases, at least."""
CONSTANT_BITS = 16
EVENT_LIMIT = 2**15 - 1


@dataclass(frozen=True)
class Precision:
    """Widths of integers, in bits with sign."""

    bits: int = 8
    """Of weights."""
    membrane_bits: int = 24
    accumulator_bits: int = 32
    """Of the sums of weights, before they reach a membrane."""
    input_bits: int = 8
    """Of pixels; without sign if none is negative."""

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise ConfigError(f"bits must be {MIN_BITS}..{MAX_BITS} (got {self.bits})")
        if not self.bits + HEADROOM_BITS <= self.membrane_bits <= 48:
            raise ConfigError(f"membrane_bits must be {self.bits + HEADROOM_BITS}..48 (got {self.membrane_bits})")


def quantize(graph: Graph, precision: Precision, input_range: tuple[float, float] | None = None) -> Graph:
    """Returns the graph in integers. `input_range` is that of the values of normalised images.

    Raises ConfigError with a layer's name for what integers cannot express. `meta` gets the widths, and notes on
    approximations: [node, text] each.
    """
    quantizer = _Quantizer(graph, precision, input_range)
    for node in graph.nodes:
        try:
            quantizer.add_node(node)
        except ConfigError as error:
            raise ConfigError(f"{node.layer or node.name}: {error}") from None
    widths = {"bits": precision.bits, "membrane_bits": precision.membrane_bits,
              "accumulator_bits": precision.accumulator_bits, "input_bits": precision.input_bits}  # fmt: skip
    return Graph(tuple(quantizer.nodes), graph.steps, {**graph.meta, **widths, "notes": quantizer.notes})


class _Quantizer:
    def __init__(self, graph: Graph, precision: Precision, input_range: tuple[float, float] | None) -> None:
        self.graph, self.precision, self.input_range = graph, precision, input_range
        self.consumers = graph.consumers()
        self.nodes: list[Node] = []
        self.notes: list[list[str]] = []
        self.scales: dict[str, Array] = {}
        """By the names of the float graph."""
        self.names: dict[str, str] = {}
        """The integer node that stands for a node of the float graph."""

    def add_node(self, node: Node) -> None:
        """Adds the integer nodes of a node."""
        kinds: dict[str, Callable[[Node], Array]] = {
            "input": self._input, "constant": self._constant, "conv": self._weighted, "linear": self._weighted,
            "matmul": self._matmul, "mask": self._mask, "add": self._add, "scale": self._scale,
            "neuron": self._neuron, "readout": self._readout,
        }  # fmt: skip
        build = self._move if node.op in MOVES else kinds[node.op]
        self.scales[node.name] = build(node)

    def _emit(self, node: Node, arrays: Mapping[str, Array] | None = None, **attrs: Any) -> None:
        """Adds the node with other arrays and further attributes."""
        inputs = tuple(self.names[name] for name in node.inputs)
        found = replace(node, inputs=inputs, arrays=node.arrays if arrays is None else arrays,
                        attrs={**node.attrs, **attrs})  # fmt: skip
        self.nodes.append(found)
        self.names[node.name] = node.name

    def _factor(self, name: str, suffix: str, factor: Array, offset: Array | None = None) -> str:
        """Adds a product of a node's integers with integers, and returns its name."""
        source = next(node for node in reversed(self.nodes) if node.name == self.names[name])
        arrays = {"factor": _integers(factor)} | ({} if offset is None else {"offset": _integers(offset)})
        new = f"{name}.{suffix}"
        self.nodes.append(Node(new, "scale", source.shape, (source.name,), arrays))
        return new

    def _note(self, node: Node, text: str) -> None:
        self.notes.append([node.layer or node.name, text])

    def _input(self, node: Node) -> Array:
        bits, kind = self.precision.input_bits, node.attrs["kind"]
        if kind == "events":
            scale, lowest, largest = 1.0, 0, EVENT_LIMIT
        elif kind == "encoded":
            scale, lowest, largest = _encoded_scale(self.graph), 0, EVENT_LIMIT
        elif self.input_range is None:
            raise ConfigError("the range of the images' values is needed (mean and std of the train file)")
        else:
            low, high = self.input_range
            lowest, largest = levels(bits) if low < 0.0 else (0, 2**bits - 1)
            scale = max(high / largest, low / lowest if lowest else 0.0)
        self._emit(node, scale=scale, lowest=lowest, largest=largest)
        return ones(node.shape) * scale

    def _constant(self, node: Node) -> Array:
        value = node.arrays["value"]
        largest = float(np.abs(value).max(initial=0.0)) or 1.0
        scale = float(2.0 ** np.ceil(np.log2(largest / levels(CONSTANT_BITS)[1])))
        self._emit(node, {"value": _integers(value / scale)})
        return ones(node.shape) * scale

    def _weighted(self, node: Node) -> Array:
        axis = -3 if node.op == "conv" else -1
        weight = self._folded(node, axis)
        rows = weight.reshape(len(weight), -1)
        bias = node.arrays.get("bias", np.zeros(len(weight)))
        feeds_sum, reference = self._ahead(node)
        step, is_grid = choose_steps(rows, self.precision.bits, powers_of_two=feeds_sum)
        shift = max(0, FINE_BITS - self.precision.bits)
        least = np.maximum(np.abs(bias), reference) * 2.0 ** (shift + HEADROOM_BITS - self.precision.membrane_bits)
        step = np.where(step < least, 2.0 ** np.ceil(np.log2(np.maximum(least, step))), step)
        self._note_steps(node, step, is_grid, rows)
        arrays = {"weight": _integers(rounded(rows, step, self.precision.bits)).reshape(weight.shape)}
        fine = step * 2.0**-shift
        if "bias" in node.arrays and not shift:
            arrays["bias"] = _integers(bias / fine)
        self._emit(node, arrays, bits=self.precision.accumulator_bits)
        per_output = (1,) * (len(node.shape) + axis) + (-1,) + (1,) * (-1 - axis)
        if shift:
            offset = (bias / fine).reshape(per_output) if "bias" in node.arrays else None
            self.names[node.name] = self._factor(node.name, "shift", ones(node.shape) * 2**shift, offset)
        return fine.reshape(per_output)

    def _folded(self, node: Node, axis: int) -> Array:
        """Returns the weights times the scales of their inputs."""
        weight, (name,) = node.arrays["weight"], node.inputs
        scale = self.scales[name]
        others = [i for i in range(scale.ndim) if i != scale.ndim + axis]
        uniform(scale, others, "a layer of weights needs one at all positions")
        columns = np.broadcast_to(scale.ravel(), (self.graph[name].shape[axis],))
        if axis == -1:
            folded: Array = weight * columns
        else:
            groups = node.attrs["groups"]
            of_group = columns.reshape(groups, 1, -1, 1, 1)
            folded = (weight.reshape(groups, -1, *weight.shape[1:]) * of_group).reshape(weight.shape)
        return folded

    def _ahead(self, node: Node) -> tuple[bool, float]:
        """Returns whether a layer's output is added to another, and the largest threshold it is compared with."""
        feeds_sum, reference, open_nodes = False, 0.0, [node]
        while open_nodes:
            for reader in self.consumers[open_nodes.pop().name]:
                feeds_sum |= reader.op == "add"
                if reader.op == "neuron":
                    reference = max(reference, float(reader.arrays["threshold"].max()) * _gain(reader))
                elif reader.op == "add" or reader.op in MOVES:
                    open_nodes.append(reader)
        return feeds_sum, reference

    def _note_steps(self, node: Node, step: Array, is_grid: Array, rows: Array) -> None:
        if is_grid.any():
            self._note(node, f"{int(is_grid.sum())} of {len(rows)} channels keep the steps of their training")

    def _matmul(self, node: Node) -> Array:
        left, right = (self.scales[name] for name in node.inputs)
        self._emit(node)
        why = "a product needs one along its sum"
        return compress(uniform(left, [-1], why) * uniform(right, [-2], why))

    def _mask(self, node: Node) -> Array:
        self._emit(node)
        left, right = (aligned(self.scales[name], node.shape) for name in node.inputs)
        return compress(left * right)

    def _move(self, node: Node) -> Array:
        shapes = [self.graph[name].shape for name in node.inputs]
        scale = moved(node, [self.scales[name] for name in node.inputs], shapes)
        self._emit(node, {name: _integers(value / scale) for name, value in node.arrays.items()})
        return scale

    def _add(self, node: Node) -> Array:
        given = [aligned(self.scales[name], node.shape) for name in node.inputs]
        scale = _common(given)
        names = []
        for i, (name, one) in enumerate(zip(node.inputs, given, strict=True)):
            factor = np.rint(one / scale)
            if (factor == 1.0).all():
                names.append(self.names[name])
                continue
            exact = np.abs(one / scale - factor).max() < 1e-9 * factor.max()
            if not exact:
                error = float(np.abs(factor * scale / one - 1.0).max())
                self._note(node, f"input {i} is scaled by whole numbers, off by up to {100 * error:.2g} %")
            names.append(self._factor(name, f"for.{node.name}.{i}", compress(factor)))
        self.nodes.append(replace(node, inputs=tuple(names)))
        self.names[node.name] = node.name
        return compress(scale)

    def _scale(self, node: Node) -> Array:
        (name,) = node.inputs
        factor, offset = node.arrays["factor"], node.arrays.get("offset")
        given = aligned(self.scales[name], node.shape)
        size = given * np.abs(aligned(factor, node.shape))
        size = np.where(size > 0.0, size, 1.0)
        sign = np.sign(factor)
        if offset is None and (sign == 1.0).all():
            if self.graph[name].shape != node.shape:
                raise ConfigError("a factor of more values than its input has no integer form")
            self.names[node.name] = self.names[name]
            return compress(size)
        shift = 0
        if offset is not None and offset.any():
            wanted = np.abs(offset).max() / 2.0**FINE_BITS
            shift = int(np.clip(np.ceil(np.log2(size / wanted)).max(), 0, CONSTANT_BITS))
        size = size * 2.0**-shift
        offsets = {} if offset is None else {"offset": _integers(offset / size)}
        self._emit(node, {"factor": _integers(sign * 2**shift), **offsets})
        return compress(size)

    def _neuron(self, node: Node) -> Array:
        (name,) = node.inputs
        scale, gain = aligned(self.scales[name], node.shape), _gain(node)
        threshold = aligned(node.arrays["threshold"], node.shape) * gain
        keep, source = _keep(node), self.names[name]
        if keep is not None:
            shift = np.maximum(0.0, np.ceil(np.log2(2.0 ** (THRESHOLD_BITS - 1) * scale / threshold)))
            if shift.any():
                source = self._factor(name, f"for.{node.name}", compress(2.0**shift))
                scale = scale * 2.0**-shift
        attrs = dict(node.attrs)
        if node.attrs["kind"] == "ternary":
            uniform(scale, range(scale.ndim), "negative spikes need one")
            attrs["low_threshold"] = _ceil(node.attrs["low_threshold"] / scale).item()
        quotient = compress(threshold / scale)
        integer = np.rint(quotient) if node.attrs["levels"] > 1 else _ceil(quotient)
        if integer.max() > levels(self.precision.membrane_bits)[1]:
            raise ConfigError(f"thresholds up to {integer.max():.0f} exceed membranes of "
                              f"{self.precision.membrane_bits} bits")  # fmt: skip
        if keep is not None:
            attrs["keep_numerator"], attrs["keep_shift"] = fixed_point(keep)
        for key in ("tau", "decay", "keep"):
            attrs.pop(key, None)
        arrays = {"threshold": _integers(np.maximum(integer, 1.0))}
        attrs["bits"] = self.precision.membrane_bits
        self.nodes.append(replace(node, inputs=(source,), arrays=arrays, attrs=attrs))
        self.names[node.name] = node.name
        return ones(node.shape)

    def _readout(self, node: Node) -> Array:
        scale = np.broadcast_to(self.scales[node.inputs[0]], node.shape)
        self._emit(node, {"factor": np.ascontiguousarray(scale * node.arrays.get("factor", 1.0))})
        return scale


def fixed_point(keep: float) -> tuple[int, int]:
    """Returns numerator and k of the least k for which `numerator / 2^k` is `keep` in 0..1, at most LEAK_SHIFT."""
    for shift in range(LEAK_SHIFT + 1):
        numerator = round(keep * 2**shift)
        if abs(numerator - keep * 2**shift) < 1e-9:
            break
    return numerator, shift


def _gain(node: Node) -> float:
    """Returns the factor on membranes and thresholds by which the charge adds the current as it is."""
    kind = node.attrs["kind"]
    return float(node.attrs["tau"] if kind == "lif" else 1.0 / node.attrs["decay"] if kind == "plif" else 1.0)


def _keep(node: Node) -> float | None:
    """Returns the share of its membrane that a neuron keeps in a step, or None if it has no leak."""
    kind = node.attrs["kind"]
    if kind in ("lif", "plif"):
        return 1.0 - 1.0 / _gain(node)
    return float(node.attrs["keep"]) if kind == "ilif" else None


def _common(scales: list[Array]) -> Array:
    """Returns the scale of a sum: the finest, or finer where the others are no multiples of it."""
    finest = scales[0]
    for scale in scales[1:]:
        finest = np.minimum(finest, scale)
    shift = np.zeros(finest.shape)
    for scale in scales:
        ratio = scale / finest
        is_whole = np.abs(ratio - np.rint(ratio)) < 1e-9 * ratio
        missing = np.ceil(MULTIPLIER_BITS - 1 - np.log2(ratio))
        shift = np.where(is_whole, shift, np.maximum(shift, missing))
    return finest * 2.0**-shift


def _encoded_scale(graph: Graph) -> float:
    """Returns the unit of an encoded image's spikes; the values of `ttfs`, 1 / (t + 1), are rounded from 9 steps on."""
    encoding = graph.meta.get("model", {}).get("encoding", "rate")
    if encoding == "rate":
        return 1.0
    if encoding == "phase":
        return float(2.0 ** -min(graph.steps - 1, 7))
    return 1.0 / float(np.lcm.reduce(range(1, min(graph.steps, 8) + 1)))


def _ceil(value: Array) -> Array:
    return np.ceil(value * (1.0 - 1e-12))


def _integers(value: Array) -> Array:
    return np.rint(value).astype(np.int64)
