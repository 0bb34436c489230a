"""Text plots for a terminal: a scatter plot of braille dots, a sparkline, a bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

BLOCKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character for its 4 x 2 dots."""

Point = tuple[float, float]
T = TypeVar("T")


def sparkline(values: Sequence[float], width: int) -> str:
    """Returns the values as blocks of different height, thinned to the width."""
    shown = thinned([value for value in values if math.isfinite(value)], width)
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown)
    return "".join(BLOCKS[int((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in shown)


def thinned(values: Sequence[T], count: int) -> list[T]:
    """Returns at most `count` evenly spaced values, the last one included."""
    if len(values) <= count:
        return list(values)
    return [values[round((i + 1) * len(values) / count) - 1] for i in range(count)]


def bar(share: float, width: int) -> str:
    """Returns a bar that is filled by a share from 0 to 1."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


def scatter(points: Sequence[Point], marked: Sequence[Point], width: int, height: int) -> list[str]:
    """Returns `height` lines of `width` characters: a dot for each point (x, y), and `●` for marked ones."""
    finite = [point for point in (*points, *marked) if all(map(math.isfinite, point))]
    if not finite:
        return [" " * width] * height
    columns = _positions([x for x, _ in finite], 2 * width)
    rows = _positions([y for _, y in finite], 4 * height)
    cells = [[0] * width for _ in range(height)]
    marks = set()
    for i, (column, row) in enumerate(zip(columns, rows, strict=True)):
        top = 4 * height - 1 - row
        cells[top // 4][column // 2] |= _DOTS[top % 4][column % 2]
        if finite[i] in marked:
            marks.add((top // 4, column // 2))
    return [
        "".join("●" if (y, x) in marks else chr(0x2800 + bits) if bits else " " for x, bits in enumerate(line))
        for y, line in enumerate(cells)
    ]


def _positions(values: Sequence[float], size: int) -> list[int]:
    """Returns the position of each value on `size` dots, the smallest at 0; equal values are in the middle."""
    low, span = min(values), max(values) - min(values)
    return [round((value - low) / span * (size - 1)) if span else size // 2 for value in values]
