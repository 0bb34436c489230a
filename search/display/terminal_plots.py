"""Small plots of text for a terminal: a scatter of braille dots, a sparkline, a bar. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

BLOCKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of a braille character for each of its 4 x 2 dots."""

Point = tuple[float, float]
T = TypeVar("T")


def sparkline(values: Sequence[float], width: int) -> str:
    """Returns the values as blocks of rising height, the last one at the right, thinned to the width."""
    kept = thinned([value for value in values if math.isfinite(value)], width)
    if not kept:
        return ""
    low, span = min(kept), max(kept) - min(kept)
    return "".join(BLOCKS[int((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in kept)


def thinned(values: Sequence[T], count: int) -> list[T]:
    """Returns at most `count` of the values, evenly spread, the last one among them."""
    if len(values) <= count:
        return list(values)
    return [values[round((i + 1) * len(values) / count) - 1] for i in range(count)]


def bar(done: float, width: int) -> str:
    """Returns a bar that is filled by a share of 0 to 1."""
    full = round(min(max(done, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


def scatter(points: Sequence[Point], marked: Sequence[Point], width: int, height: int) -> list[str]:
    """Returns `height` lines of `width` characters: a dot for each point, and `●` where a marked one lies.

    The first coordinate runs to the right, the second one up.
    """
    every = [point for point in (*points, *marked) if all(map(math.isfinite, point))]
    if not every:
        return [" " * width] * height
    columns = _positions([x for x, _ in every], 2 * width)
    rows = _positions([y for _, y in every], 4 * height)
    cells = [[0] * width for _ in range(height)]
    marks = set()
    for i, (column, row) in enumerate(zip(columns, rows, strict=True)):
        top = 4 * height - 1 - row
        cells[top // 4][column // 2] |= _DOTS[top % 4][column % 2]
        if every[i] in marked:
            marks.add((top // 4, column // 2))
    return [
        "".join("●" if (y, x) in marks else chr(0x2800 + bits) if bits else " " for x, bits in enumerate(line))
        for y, line in enumerate(cells)
    ]


def _positions(values: Iterable[float], size: int) -> list[int]:
    """Returns where each value lies on `size` dots, the smallest at 0; a single value lies in the middle."""
    known = list(values)
    low, span = min(known), max(known) - min(known)
    return [round((value - low) / span * (size - 1)) if span else size // 2 for value in known]
