"""The operations of a graph: number of inputs, arrays, attributes, and the shape of the output.

Shapes are those of one step of one image, without T and B. `...` are any leading axes, usually none; operations with
two inputs broadcast them as numpy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config.errors import ConfigError

Array = NDArray[Any]
Shape = tuple[int, ...]
ShapeRule = Callable[[list[Shape], Mapping[str, Array], Mapping[str, Any]], Shape]
"""From the inputs' shapes, the arrays and the attributes to the shape of the output."""

NEURONS = ("lif", "plif", "if", "ilif", "ielif", "ternary")
"""The kinds of neurons; `models.chip.machine.neurons` has the step of each."""
FEDS = ("spikes", "encoded", "real")
MATMUL_KINDS = ("spikes", "signed", "real")


@dataclass(frozen=True)
class Op:
    """What a node of an operation must have."""

    inputs: int | None
    """Number of inputs; None for one or more."""
    shape: ShapeRule
    arrays: frozenset[str] = frozenset()
    optional_arrays: frozenset[str] = frozenset()
    attrs: frozenset[str] = frozenset()
    optional_attrs: frozenset[str] = frozenset()


def _same(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    return shapes[0]


def _given(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    shape = tuple(attrs["shape"])
    if shapes and np.prod(shape, dtype=int) != np.prod(shapes[0], dtype=int):
        raise ConfigError(f"{list(shapes[0])} cannot be read as {list(shape)}")
    return shape


def _broadcast(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    try:
        return np.broadcast_shapes(*shapes, *(array.shape for array in arrays.values()))
    except ValueError as error:
        raise ConfigError(f"{[list(shape) for shape in shapes]} do not broadcast") from error


def window_outputs(size: int, kernel: int, stride: int, padding: int) -> int:
    """Returns the positions of a window along an axis."""
    return (size + 2 * padding - kernel) // stride + 1


def _conv(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    *outer, channels, height, width = shapes[0]
    out, each, *kernel = arrays["weight"].shape
    if each * attrs["groups"] != channels:
        raise ConfigError(f"weights for {each * attrs['groups']} channels read {channels}")
    sides = zip((height, width), kernel, attrs["stride"], attrs["padding"], strict=True)
    return (*outer, out, *(window_outputs(*side) for side in sides))


def _linear(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    out, inputs = arrays["weight"].shape
    if shapes[0][-1] != inputs:
        raise ConfigError(f"weights for {inputs} inputs read {shapes[0][-1]}")
    return (*shapes[0][:-1], out)


def _pool(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    sides = zip(shapes[0][-2:], attrs["kernel"], attrs["stride"], attrs["padding"], strict=True)
    return (*shapes[0][:-2], *(window_outputs(*side) for side in sides))


def _matmul(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    left, right = shapes
    if left[-1] != right[-2]:
        raise ConfigError(f"{list(left)} and {list(right)} have no product")
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def _sum(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    axes = attrs["axes"]
    if attrs["keepdims"]:
        return tuple(1 if i in axes else size for i, size in enumerate(shapes[0]))
    return tuple(size for i, size in enumerate(shapes[0]) if i not in axes)


def _transpose(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    return tuple(shapes[0][axis] for axis in attrs["axes"])


def _slice(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    sizes, axis = list(shapes[0]), attrs["axis"]
    sizes[axis] = len(range(attrs["start"], attrs["stop"], attrs["step"]))
    return tuple(sizes)


def _concat(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    axis = attrs["axis"]
    return tuple(sum(shape[i] for shape in shapes) if i == axis else size for i, size in enumerate(shapes[0]))


def _pad(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    return tuple(size + before + after for size, (before, after) in zip(shapes[0], attrs["widths"], strict=True))


def _constant(shapes: list[Shape], arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> Shape:
    return arrays["value"].shape


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WEIGHTS = {"arrays": _names("weight"), "optional_arrays": _names("bias")}

OPS: dict[str, Op] = {
    "input": Op(0, _given, attrs=_names("shape kind"), optional_attrs=_names("scale lowest largest")),
    "constant": Op(0, _constant, arrays=_names("value")),
    "conv": Op(1, _conv, attrs=_names("stride padding groups fed"), optional_attrs=_names("bits"), **WEIGHTS),
    "linear": Op(1, _linear, attrs=_names("fed"), optional_attrs=_names("bits"), **WEIGHTS),
    "matmul": Op(2, _matmul, attrs=_names("kinds")),
    "mask": Op(2, _broadcast, attrs=_names("counts")),
    "sum": Op(1, _sum, attrs=_names("axes keepdims")),
    "max_pool": Op(1, _pool, attrs=_names("kernel stride padding")),
    "sum_pool": Op(1, _pool, attrs=_names("kernel stride padding")),
    "add": Op(None, _broadcast),
    "scale": Op(
        1, _broadcast, arrays=_names("factor"), optional_arrays=_names("offset"), optional_attrs=_names("shift")
    ),
    "reshape": Op(1, _given, attrs=_names("shape")),
    "transpose": Op(1, _transpose, attrs=_names("axes")),
    "slice": Op(1, _slice, attrs=_names("axis start stop step")),
    "concat": Op(None, _concat, attrs=_names("axis")),
    "pad": Op(1, _pad, attrs=_names("widths"), optional_arrays=_names("value")),
    "neuron": Op(
        1,
        _same,
        arrays=_names("threshold"),
        attrs=_names("kind levels"),
        optional_attrs=_names("tau decay keep low_threshold keep_numerator keep_shift bits"),
    ),
    "readout": Op(1, _same, attrs=_names("steps"), optional_arrays=_names("factor")),
}
"""Each operation by its name; `models.chip.graph` says what they compute."""
