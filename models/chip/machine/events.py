"""Event-driven products in numpy: each nonzero value of an input is visited and adds its weights to its targets.

Every function returns the output and the number of additions that were made, a value of k making k of them. Values of
one step of one image are int64 or float64; the same code adds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from models.chip.ops import Array, Shape, window_outputs

CHUNK = 2**18
"""Weights that are gathered at once: a few megabytes, which stay in the cache."""


class Sides(NamedTuple):
    """A window's size, stride and zero padding, as [height, width] each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def outputs(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the output map."""
        sides = zip((height, width), *self, strict=True)
        rows, columns = (window_outputs(*side) for side in sides)
        return rows, columns

    def taps(self) -> Iterator[tuple[int, int]]:
        """Yields the positions within the window."""
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                yield row, column


def add_rows(out: Array, targets: Array, rows: Array, values: Array, table: Array) -> None:
    """Adds `values[e] * table[rows[e]]` to `out[targets[e]]` for each event e; equal targets follow each other."""
    size = max(1, CHUNK // table.shape[1])
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        gathered, to = table[rows[part]], targets[part]
        if np.any(values[part] != 1):
            gathered = gathered * values[part, None]
        firsts = np.flatnonzero(np.concatenate(([True], to[1:] != to[:-1])))
        out[to[firsts]] += gathered if len(firsts) == len(to) else np.add.reduceat(gathered, firsts, axis=0)


def by_input(weight: Array, groups: int) -> Array:
    """Returns the weights of each tap and input channel next to each other, [kh, kw, C, O / groups]."""
    out, each, *kernel = weight.shape
    grouped = weight.reshape(groups, out // groups, each, *kernel)
    return np.ascontiguousarray(grouped.transpose(3, 4, 0, 2, 1)).reshape(*kernel, groups * each, out // groups)


def conv(x: Array, table: Array, sides: Sides, groups: int) -> tuple[Array, float]:
    """Returns the convolution [..., O, H', W'] of x [..., C, H, W] with the weights of a table by `by_input`.

    The additions are one for each weight that a value meets, none in the padding.
    """
    maps = x.reshape(-1, *x.shape[-3:])
    parts = [_conv_of_map(one, table, sides, groups) for one in maps]
    out = np.stack([part for part, _ in parts])
    return out.reshape(*x.shape[:-3], *out.shape[1:]), sum(count for _, count in parts)


def _conv_of_map(x: Array, table: Array, sides: Sides, groups: int) -> tuple[Array, float]:
    (channels, height, width), each = x.shape, table.shape[-1]
    rows, columns = sides.outputs(height, width)
    ys, xs, cs = np.nonzero(x.transpose(1, 2, 0))
    values, group, additions = x[cs, ys, xs], cs // (channels // groups), 0.0
    out = np.zeros((rows * columns * groups, each), np.result_type(x, table))
    for row, column in sides.taps():
        y, to_y = _targets(ys, row, sides.stride[0], sides.padding[0], rows)
        z, to_z = _targets(xs, column, sides.stride[1], sides.padding[1], columns)
        hit = np.flatnonzero(y & z)
        targets = (to_y[hit] * columns + to_z[hit]) * groups + group[hit]
        add_rows(out, targets, cs[hit], values[hit], table[row, column])
        additions += float(np.abs(values[hit]).sum()) * each
    return out.reshape(rows, columns, groups * each).transpose(2, 0, 1), additions


def _targets(position: Array, tap: int, stride: int, padding: int, outputs: int) -> tuple[Array, Array]:
    """Returns along one axis whether a tap leads to an output, and to which one."""
    shifted = position + padding - tap
    target = shifted // stride
    return (shifted >= 0) & (shifted % stride == 0) & (target < outputs), target


def by_column(weight: Array) -> Array:
    """Returns the weights [O, I] of each input next to each other, [I, O]."""
    return np.ascontiguousarray(weight.T)


def linear(x: Array, table: Array) -> tuple[Array, float]:
    """Returns x [..., I] times the weights of a table by `by_column`, and the additions."""
    out, additions = product(x.reshape(1, -1, x.shape[-1]), table[None])
    return out.reshape(*x.shape[:-1], table.shape[-1]), additions


def product(a: Array, b: Array) -> tuple[Array, float]:
    """Returns the matrix product of a [..., N, K] and b [..., K, M] by the events of a, and the additions."""
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (n, k), m = a.shape[-2:], b.shape[-1]
    left, right = _stacked(a, (*outer, n, k)), _stacked(b, (*outer, k, m))
    index, row, column = np.nonzero(left)
    values = left[index, row, column]
    out = np.zeros((len(left) * n, m), np.result_type(a, b))
    add_rows(out, index * n + row, index * k + column, values, right.reshape(-1, m))
    return out.reshape(*outer, n, m), float(np.abs(values).sum()) * m


def _stacked(x: Array, shape: Shape) -> Array:
    stacked: Array = np.broadcast_to(x, shape).reshape(-1, *shape[-2:])
    return stacked


def product_by_right(a: Array, b: Array) -> tuple[Array, float]:
    """Returns the same product by the events of b, and the additions."""
    out, additions = product(b.swapaxes(-1, -2), a.swapaxes(-1, -2))
    return out.swapaxes(-1, -2), additions


def max_pool(x: Array, sides: Sides) -> Array:
    """Returns the maximum of each window over the last two axes; padding never wins."""
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    return _pooled(x, sides, np.maximum, lowest)


def sum_pool(x: Array, sides: Sides) -> Array:
    """Returns the sum of each window over the last two axes."""
    return _pooled(x, sides, np.add, 0)


def _pooled(x: Array, sides: Sides, join: np.ufunc, edge: float) -> Array:
    (above, left), (down, right) = sides.padding, sides.stride
    widths = [(0, 0)] * (x.ndim - 2) + [(above, above), (left, left)]
    padded = np.pad(x, widths, constant_values=edge)
    rows, columns = sides.outputs(*x.shape[-2:])
    out: Array | None = None
    for row, column in sides.taps():
        part = padded[..., row : row + down * rows : down, column : column + right * columns : right]
        part = part[..., :rows, :columns]
        out = part.copy() if out is None else join(out, part)
    assert out is not None
    return out
