"""Scales of integers: the real value of 1 at each position, as an array that broadcasts against the node's output.

A scale has as many axes as the output, of size 1 where all positions along the axis share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.chip.graph import Node
from models.chip.ops import Array, Shape


def ones(shape: Shape) -> Array:
    """Returns the scale of counts."""
    return np.ones((1,) * len(shape))


def compress(scale: Array) -> Array:
    """Returns a scale with size 1 along the axes where it is constant."""
    for axis in range(scale.ndim):
        first = scale.take([0], axis)
        if scale.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, scale.shape), scale):
            scale = first
    return scale


def aligned(array: Array, shape: Shape) -> Array:
    """Returns an array that broadcasts against a shape with leading axes of size 1, as many axes as the shape."""
    return array.reshape((1,) * (len(shape) - array.ndim) + array.shape)


def moved(node: Node, scales: Sequence[Array], shapes: Sequence[Shape]) -> Array:
    """Returns the output's scale of an operation that moves values, sums them or takes their maximum."""
    return compress(_MOVES[node.op](node.attrs, [aligned(s, shape) for s, shape in zip(scales, shapes, strict=True)],
                                    shapes, node.shape))  # fmt: skip


def _pool(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    return scales[0]  # one for all positions


def _sum(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    return scales[0] if attrs["keepdims"] else scales[0].squeeze(tuple(attrs["axes"]))


def _reshape(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    return ones(shape) * scales[0].item() if scales[0].size == 1 else _full(scales[0], shapes[0]).reshape(shape)


def _transpose(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    return scales[0].transpose(attrs["axes"])


def _slice(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    axis = attrs["axis"]
    if scales[0].shape[axis] == 1:
        return scales[0]
    return scales[0].take(range(attrs["start"], attrs["stop"], attrs["step"]), axis)


def _concat(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    return np.concatenate([_full(s, one) for s, one in zip(scales, shapes, strict=True)], attrs["axis"])


def _pad(attrs: Mapping[str, Any], scales: list[Array], shapes: Sequence[Shape], shape: Shape) -> Array:
    widths = [pair if size > 1 else (0, 0) for pair, size in zip(attrs["widths"], scales[0].shape, strict=True)]
    return np.pad(scales[0], widths, mode="edge")


def _full(scale: Array, shape: Shape) -> Array:
    return np.broadcast_to(scale, shape)


_MOVES = {
    "max_pool": _pool,
    "sum_pool": _pool,
    "sum": _sum,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
}
MOVES = frozenset(_MOVES)
"""Operations that leave integers as they are, or add and compare those of one scale."""
