"""Quantisation of a graph: weights, biases, thresholds and leaks as integers, without data.

Every value has a scale (`models.chip.scales`), which weights, thresholds and the readout absorb:

- Weights have one step per output channel. The scale of the input is part of the weights.
- A threshold is `ceil(threshold gain / scale)`, for each channel, where `gain` is tau: with `tau V` as the membrane,
  the charge needs no product with 1/tau. A leak is `numerator / 2^shift`.
- A sum needs one scale. The layers that feed it get steps that are powers of two, so that its inputs are shifted;
  inputs of other scales are multiplied by integers of 8 bits or more.
- Values of a coarse scale are shifted left in front of biases and neurons, so that biases, thresholds and leaks are
  fine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from config.errors import ConfigError
from models.chip.graph import Graph, Node
from models.chip.ops import Array, Shape
from models.chip.scales import MOVES, aligned, compress, moved, ones
from models.chip.steps import choose_steps, levels, rounded

MIN_BITS, MAX_BITS = 4, 16
FINE_BITS = 8
"""Least width of thresholds, and of factors that stand for no whole numbers, unless that of the weights is larger."""
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

    @classmethod
    def of_weights(cls, bits: int, membrane_bits: int | None = None, input_bits: int = 8) -> Precision:
        """Returns widths that suit weights of `bits`. Raises ConfigError."""
        wide = max(cls.membrane_bits, bits + 16) if membrane_bits is None else membrane_bits
        return cls(bits, wide, max(cls.accumulator_bits, wide), input_bits)


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
    return Graph(tuple(quantizer.nodes.values()), graph.steps, {**graph.meta, **widths, "notes": quantizer.notes})


class Source(NamedTuple):
    """An input of an integer node: the node that gives it, and its scale, with as many axes as it has."""

    name: str
    scale: Array


class _Quantizer:
    def __init__(self, graph: Graph, precision: Precision, input_range: tuple[float, float] | None) -> None:
        self.graph, self.precision, self.input_range = graph, precision, input_range
        self.fine_bits = max(FINE_BITS, precision.bits)
        self.consumers = graph.consumers()
        self.nodes: dict[str, Node] = {}
        self.notes: list[list[str]] = []
        self.sources: dict[str, Source] = {}
        """The integer node that stands for each node of the float graph."""

    def add_node(self, node: Node) -> None:
        """Adds the integer nodes of a node."""
        kinds: dict[str, Callable[[Node, list[Source]], Source]] = {
            "input": self._input, "constant": self._constant, "conv": self._weighted, "linear": self._weighted,
            "matmul": self._matmul, "mask": self._mask, "add": self._add, "scale": self._scale,
            "neuron": self._neuron, "readout": self._readout,
        }  # fmt: skip
        given = [self._levelled(node, i) for i in range(len(node.inputs))]
        build = self._move if node.op in MOVES else kinds[node.op]
        self.sources[node.name] = build(node, given)

    def _emit(self, node: Node, given: Sequence[Source], arrays: Mapping[str, Array], scale: Array) -> Source:
        """Adds the node with other inputs and arrays, and returns it with its scale."""
        self.nodes[node.name] = replace(node, inputs=tuple(source.name for source in given), arrays=arrays)
        return Source(node.name, compress(scale))

    def _scaled(self, source: Source, name: str, scale: Array, offset: Array | None = None) -> Source:
        """Adds a product with whole numbers that gives a source this scale, and returns it."""
        factor = np.rint(source.scale / scale)
        if (factor == 1.0).all() and offset is None:
            return source
        arrays = {"factor": _integers(compress(factor))} | ({} if offset is None else {"offset": _integers(offset)})
        self.nodes[name] = Node(name, "scale", self.nodes[source.name].shape, (source.name,), arrays)
        return Source(name, compress(scale))

    def _coarser(self, source: Source, name: str, shift: int) -> Source:
        """Adds a rounded shift to the right, and returns it."""
        arrays = {"factor": np.array(1, np.int64)}
        self.nodes[name] = Node(name, "scale", self.nodes[source.name].shape, (source.name,), arrays, {"shift": shift})
        return Source(name, source.scale * 2.0**shift)

    def _note(self, node: Node, text: str) -> None:
        self.notes.append([node.layer or node.name, text])

    def _levelled(self, node: Node, i: int) -> Source:
        """Returns an input of a node, multiplied so that it has one scale where the operation needs one."""
        source = self.sources[node.inputs[i]]
        axes = tuple(axis % source.scale.ndim for axis in _level_axes(node, i, source.scale.ndim))
        if all(source.scale.shape[axis] == 1 for axis in axes):
            return source
        finest = np.broadcast_to(source.scale.min(axes, keepdims=True), source.scale.shape)
        shift = _missing_bits(source.scale, finest, self.fine_bits).max(axes, keepdims=True)
        scale = finest * 2.0**-shift
        self._note_error(node, source.scale / scale, f"input {i}")
        return self._scaled(source, f"{node.inputs[i]}.for.{node.name}.{i}", scale)

    def _note_error(self, node: Node, ratio: Array, what: str) -> None:
        error = float(np.abs(np.rint(ratio) / ratio - 1.0).max())
        if error > 1e-9:
            self._note(node, f"{what} is multiplied by whole numbers, off by up to {100 * error:.2g} %")

    def _input(self, node: Node, given: list[Source]) -> Source:
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
        attrs = {**node.attrs, "scale": scale, "lowest": lowest, "largest": largest}
        return self._emit(replace(node, attrs=attrs), (), {}, ones(node.shape) * scale)

    def _constant(self, node: Node, given: list[Source]) -> Source:
        value = node.arrays["value"]
        largest = float(np.abs(value).max(initial=0.0)) or 1.0
        scale = float(2.0 ** np.ceil(np.log2(largest / levels(CONSTANT_BITS)[1])))
        return self._emit(node, (), {"value": _integers(value / scale)}, ones(node.shape) * scale)

    def _weighted(self, node: Node, given: list[Source]) -> Source:
        axis, bits = -3 if node.op == "conv" else -1, self.precision.bits
        weight = self._folded(node, given[0].scale, axis)
        rows = weight.reshape(len(weight), -1)
        bias = node.arrays.get("bias", np.zeros(len(weight)))
        feeds_sum, reference = self._ahead(node)
        step, is_grid = choose_steps(rows, bits, powers_of_two=feeds_sum)
        if is_grid.any():
            self._note(node, f"{int(is_grid.sum())} of {len(is_grid)} channels keep the steps of their training")
        width = self.precision.membrane_bits if reference else self.precision.accumulator_bits
        reference = max(reference, float(np.abs(bias).max(initial=0.0))) or 1.0
        least = reference * 2.0 ** (HEADROOM_BITS - width)
        needed = np.maximum(step, np.abs(rows).max(1) / levels(min(bits, FINE_BITS))[1])
        excess = int(np.ceil(np.log2(least / np.median(needed))))
        if node.attrs["fed"] == "real" and excess > 0:  # or the weights would be coarser than they are large
            given = [self._coarser(given[0], f"{node.inputs[0]}.for.{node.name}", excess)]
            weight, rows, step = (array * 2.0**excess for array in (weight, rows, step))
        step = np.maximum(step, 2.0 ** np.ceil(np.log2(least)))
        fine = step * 2.0 ** -np.maximum(0.0, np.ceil(np.log2(step / reference) + self.fine_bits))
        is_shifted = bool((fine < step).any())
        arrays = {"weight": _integers(rounded(rows, step, bits)).reshape(weight.shape)}
        if "bias" in node.arrays and not is_shifted:
            arrays["bias"] = _integers(bias / fine)
        per_output = (1,) * (len(node.shape) + axis) + (-1,) + (1,) * (-1 - axis)
        limited = replace(node, attrs={**node.attrs, "bits": self.precision.accumulator_bits})
        found = self._emit(limited, given, arrays, step.reshape(per_output))
        if not is_shifted:
            return found
        offset = (bias / fine).reshape(per_output) if "bias" in node.arrays else None
        return self._scaled(found, f"{node.name}.shift", fine.reshape(per_output), offset)

    def _folded(self, node: Node, scale: Array, axis: int) -> Array:
        """Returns the weights times the scales of their inputs."""
        weight = node.arrays["weight"]
        columns = np.broadcast_to(scale.ravel(), (self.graph[node.inputs[0]].shape[axis],))
        if axis == -1:
            folded: Array = weight * columns
        else:
            groups = node.attrs["groups"]
            of_group = columns.reshape(groups, 1, -1, 1, 1)
            folded = (weight.reshape(groups, -1, *weight.shape[1:]) * of_group).reshape(weight.shape)
        return folded

    def _ahead(self, node: Node) -> tuple[bool, float]:
        """Returns whether a layer's output meets other scales, and the largest threshold it is compared with."""
        meets_others, reference, open_nodes = False, 0.0, [node]
        while open_nodes:
            for reader in self.consumers[open_nodes.pop().name]:
                meets_others |= reader.op in ("add", "matmul", "sum")
                if reader.op == "neuron":
                    reference = max(reference, float(reader.arrays["threshold"].max()) * _gain(reader))
                    meets_others |= reader.attrs["kind"] == "ternary"
                elif reader.op == "add" or reader.op in MOVES:
                    open_nodes.append(reader)
        return meets_others, reference

    def _matmul(self, node: Node, given: list[Source]) -> Source:
        left, right = given
        return self._emit(node, given, {}, left.scale * right.scale)

    def _mask(self, node: Node, given: list[Source]) -> Source:
        left, right = (aligned(source.scale, node.shape) for source in given)
        return self._emit(node, given, {}, left * right)

    def _move(self, node: Node, given: list[Source]) -> Source:
        scale = moved(node, [source.scale for source in given], [self.graph[name].shape for name in node.inputs])
        return self._emit(node, given, {name: _integers(value / scale) for name, value in node.arrays.items()}, scale)

    def _add(self, node: Node, given: list[Source]) -> Source:
        scales = [aligned(source.scale, node.shape) for source in given]
        finest = np.minimum.reduce(np.broadcast_arrays(*scales))
        shift = np.maximum.reduce([_missing_bits(scale, finest, self.fine_bits) for scale in scales])
        scale = finest * 2.0**-shift
        sources = []
        for i, (source, one) in enumerate(zip(given, scales, strict=True)):
            self._note_error(node, one / scale, f"input {i}")
            name = f"{node.inputs[i]}.for.{node.name}.{i}"
            shape = self.nodes[source.name].shape
            sources.append(self._scaled(source, name, _within(scale, shape) if len(shape) < scale.ndim else scale))
        return self._emit(node, sources, {}, scale)

    def _scale(self, node: Node, given: list[Source]) -> Source:
        (source,) = given
        factor, offset = node.arrays["factor"], node.arrays.get("offset")
        size = aligned(source.scale, node.shape) * np.abs(aligned(factor, node.shape))
        size = np.where(size > 0.0, size, 1.0)
        sign = np.sign(factor)
        if offset is None and (sign == 1.0).all():
            if self.graph[node.inputs[0]].shape != node.shape:
                raise ConfigError("a factor of more values than its input has no integer form")
            return Source(source.name, compress(size))
        shift = 0
        if offset is not None and offset.any():
            wanted = np.abs(offset).max() / 2.0**self.fine_bits
            shift = int(np.clip(np.ceil(np.log2(size / wanted)).max(), 0, CONSTANT_BITS))
        size = size * 2.0**-shift
        arrays = {"factor": _integers(sign * 2**shift)}
        if offset is not None:
            arrays["offset"] = _integers(offset / size)
        return self._emit(node, given, arrays, size)

    def _neuron(self, node: Node, given: list[Source]) -> Source:
        (source,) = given
        keep, bits = _keep(node), self.precision.membrane_bits
        threshold = aligned(node.arrays["threshold"], node.shape) * _gain(node)
        if keep is not None:
            coarse = np.ceil(np.log2(2.0**self.fine_bits * source.scale / threshold))
            source = self._scaled(source, f"{node.inputs[0]}.for.{node.name}",
                                  source.scale * 2.0 ** -np.maximum(0.0, coarse))  # fmt: skip
        quotient = compress(threshold / source.scale)
        integer = np.rint(quotient) if node.attrs["levels"] > 1 else _ceil(quotient)
        if integer.max() > levels(bits)[1]:
            raise ConfigError(f"thresholds up to {integer.max():.0f} exceed membranes of {bits} bits")
        attrs = {key: value for key, value in node.attrs.items() if key not in ("tau", "decay", "keep")}
        if node.attrs["kind"] == "ternary":
            attrs["low_threshold"] = int(_ceil(node.attrs["low_threshold"] / source.scale).item())
        if keep is not None:
            attrs["keep_numerator"], attrs["keep_shift"] = fixed_point(keep)
        arrays = {"threshold": _integers(np.maximum(integer, 1.0))}
        return self._emit(replace(node, attrs={**attrs, "bits": bits}), [source], arrays, ones(node.shape))

    def _readout(self, node: Node, given: list[Source]) -> Source:
        scale = np.broadcast_to(given[0].scale, node.shape)
        return self._emit(node, given, {"factor": np.array(scale * node.arrays.get("factor", 1.0))}, scale)


def _level_axes(node: Node, i: int, axes: int) -> Sequence[int]:
    """Returns the axes of an input along which the operation needs one scale."""
    if node.op in ("conv", "linear"):
        channel = -3 if node.op == "conv" else -1
        return [axis for axis in range(axes) if axis != axes + channel]
    if node.op == "matmul":
        return [-1 - i]
    if node.op == "sum":
        return list(node.attrs["axes"])
    if node.op in ("max_pool", "sum_pool"):
        return [-2, -1]
    return range(axes) if node.op == "neuron" and node.attrs["kind"] == "ternary" else ()


def _missing_bits(scale: Array, finest: Array, bits: int) -> Array:
    """Returns how much finer a unit must be for a scale to be a whole multiple, or one of `bits` bits at least."""
    ratio = scale / finest
    is_whole = np.abs(ratio - np.rint(ratio)) < 1e-9 * ratio
    return np.where(is_whole, 0.0, np.maximum(0.0, np.ceil(bits - 1 - np.log2(ratio))))


def _within(scale: Array, shape: Shape) -> Array:
    """Returns a scale of more axes for a shape of fewer. Raises ConfigError if it differs along the others."""
    more = scale.ndim - len(shape)
    if any(size > 1 for size in scale.shape[:more]):
        raise ConfigError("a sum of inputs of other sizes needs one scale")
    return scale.reshape(scale.shape[more:])


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
