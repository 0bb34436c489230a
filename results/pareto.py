"""Pareto dominance, fronts, epsilon-net, knee and hypervolume of points to minimize.

Points are `[n, m]` finite values, and functions return row positions. `minimised` negates the columns to maximize.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Points = Sequence[Sequence[float]] | Floats

TIE_TOLERANCE = 1e-9
"""Distances in scaled space that differ by less are equal."""


def minimised(points: Points, directions: Sequence[str]) -> Floats:
    """Returns the points with the columns of the `maximize` directions negated."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    negated: Floats = _rows(points).reshape(-1, len(signs)) * signs
    return negated


def non_dominated(points: Points) -> NDArray[np.bool_]:
    """Returns a mask of the points that no other point dominates; equal points have equal values."""
    rows = _rows(points)
    if not len(rows):
        return np.zeros(0, dtype=bool)
    ordered, positions = _distinct(rows)
    mask = _non_dominated_2d(ordered) if rows.shape[1] == 2 else _non_dominated(ordered)
    return mask[positions]


def non_dominated_sort(points: Points, min_points: int | None = None) -> list[list[int]]:
    """Returns the fronts, best first, as ascending positions; stops once they hold `min_points`."""
    rows = _rows(points)
    wanted = len(rows) if min_points is None else min(min_points, len(rows))
    if wanted < 1:
        return []
    ordered, positions = _distinct(rows)
    ranks = (_ranks_2d(ordered) if rows.shape[1] == 2 else _ranks(ordered))[positions]
    ends = np.cumsum(np.bincount(ranks))
    fronts = np.split(np.argsort(ranks, kind="stable"), ends[:-1])
    return [front.tolist() for front in fronts[: int(np.searchsorted(ends, wanted)) + 1]]


def normalize(points: Points) -> Floats:
    """Returns the points with each objective scaled to [0, 1]; a constant objective becomes 0."""
    rows = _rows(points)
    if not len(rows):
        return rows
    low = rows.min(axis=0)
    span = rows.max(axis=0) - low
    unit: Floats = (rows - low) / np.where(span > 0, span, 1.0)
    return unit


def epsilon_net(points: Points, count: int, accepted: Points = ()) -> list[int]:
    """Returns the positions of up to `count` points, each the farthest from all picked before (farthest-first).

    `accepted` are points picked earlier, in the same scale. Without them, the first pick is the best in the first
    objective, then in the others. Distances within `TIE_TOLERANCE` tie, and ties go to the lower position.
    """
    rows, earlier = _rows(points), _rows(accepted)
    picks: list[int] = []
    gap = np.full(len(rows), np.inf)
    if len(earlier) and len(rows):
        from scipy.spatial.distance import cdist  # its import takes a third of a second

        gap = cdist(rows, earlier).min(axis=1)
    while len(picks) < min(count, len(rows)):
        is_first = not picks and not len(earlier)
        pick = _lexicographic_min(rows) if is_first else int(np.argmax(gap >= gap.max() - TIE_TOLERANCE))
        picks.append(pick)
        gap = np.minimum(gap, np.linalg.norm(rows - rows[pick], axis=1))
        gap[pick] = -np.inf
    return picks


def knee(points: Points) -> int:
    """Returns the position of the best compromise among the non-dominated points.

    With two objectives it is the point farthest from the chord between the ends of the front, on the side of the ideal
    point, in scaled objectives. Otherwise, or if no point lies on that side, it is the one with the smallest Chebyshev
    distance to the ideal. Ties go to the better first objective, then to the others, then to the lower position.
    """
    rows = _rows(points)
    if not len(rows):
        raise ValueError("the knee needs at least one point, but got none")
    front = np.flatnonzero(non_dominated(rows))
    unit = normalize(rows[front])
    depth = (1.0 - unit.sum(axis=1)) / np.sqrt(2.0)  # the ends of a scaled front are (0, 1) and (1, 0)
    if rows.shape[1] != 2 or depth.max() <= TIE_TOLERANCE:
        depth = -unit.max(axis=1)
    tied = front[depth >= depth.max() - TIE_TOLERANCE]
    return int(tied[_lexicographic_min(rows[tied])])


def hypervolume(points: Points, reference: Sequence[float] | Floats) -> float:
    """Returns the exact volume that the points dominate, bounded by the reference point (the worst corner)."""
    corner = np.asarray(reference, dtype=np.float64)
    rows = _rows(points).reshape(-1, len(corner))
    rows = rows[np.all(rows < corner, axis=1)]
    return _volume(rows[non_dominated(rows)], corner)


def _volume(front: Floats, corner: Floats) -> float:
    if not len(front):
        return 0.0
    if len(corner) == 2:
        steps = np.unique(front, axis=0)  # ascending in the first objective, so descending in the second
        widths = np.diff(np.append(steps[:, 0], corner[0]))
        return float(np.sum(widths * (corner[1] - steps[:, 1])))
    total = 0.0
    for position, point in enumerate(front):  # the volume of this point alone, without that of later points
        shadow = np.maximum(front[position + 1 :], point)
        total += float(np.prod(corner - point)) - _volume(shadow[non_dominated(shadow)], corner)
    return total


def _distinct(rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Returns the distinct rows in lexicographic order, and the position of each row among them."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_first = np.append(True, np.any(ordered[1:] != ordered[:-1], axis=1))
    positions = np.empty(len(rows), dtype=np.intp)
    positions[order] = np.cumsum(is_first) - 1
    return ordered[is_first], positions


def _ranks_2d(ordered: Floats) -> NDArray[np.intp]:
    """Returns the front of each distinct point in lexicographic order, by bisection.

    A front dominates a point if its lowest second objective so far does not exceed the point's, and these lowest values
    ascend from front to front.
    """
    lowest: list[float] = []
    ranks = np.empty(len(ordered), dtype=np.intp)
    for position, second in enumerate(ordered[:, 1].tolist()):
        rank = bisect_right(lowest, second)
        lowest[rank : rank + 1] = [second]
        ranks[position] = rank
    return ranks


def _ranks(ordered: Floats) -> NDArray[np.intp]:
    """Returns the front of each distinct point in lexicographic order: one after the last that dominates it."""
    ranks = np.zeros(len(ordered), dtype=np.intp)
    for position, row in enumerate(ordered):
        rivals = np.all(ordered[:position] <= row, axis=1)
        ranks[position] = ranks[:position][rivals].max(initial=-1) + 1
    return ranks


def _non_dominated_2d(ordered: Floats) -> NDArray[np.bool_]:
    """In lexicographic order, a distinct point is dominated if an earlier one is as good in the second objective."""
    best_before = np.minimum.accumulate(ordered[:, 1])[:-1]
    return np.append(True, ordered[1:, 1] < best_before)


def _non_dominated(ordered: Floats) -> NDArray[np.bool_]:
    """In lexicographic order, only an earlier non-dominated point can dominate a distinct point."""
    mask = np.zeros(len(ordered), dtype=bool)
    for position, row in enumerate(ordered):
        mask[position] = not np.any(np.all(ordered[:position][mask[:position]] <= row, axis=1))
    return mask


def _lexicographic_min(rows: Floats) -> int:
    """Returns the position of the lexicographically smallest row, the lowest of equal ones."""
    return int(np.lexsort(rows.T[::-1])[0])


def _rows(points: Points) -> Floats:
    rows = np.asarray(points, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
    if rows.ndim != 2:
        rows = rows.reshape(len(rows), -1) if rows.size else np.zeros((0, 0))
    if not np.all(np.isfinite(rows)):
        raise ValueError("points must be finite, but got NaN or infinity")
    return rows
