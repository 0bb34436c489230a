"""Empirical attainment surfaces of repeated searches (Fonseca and Grunert da Fonseca, 2001), for two objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results import pareto
from results.pareto import Floats, Points


def attainment_surface(fronts: Sequence[Points], count: int) -> Floats:
    """Returns the corners `[n, 2]` of the boundary of what at least `count` of the fronts attain, to minimize.

    A front attains a point if one of its points is at least as good in both objectives. Corners are ordered by the
    first objective. There is none if fewer than `count` fronts have points.
    """
    if not 1 <= count <= len(fronts):
        raise ValueError(f"count must be from 1 to the number of fronts, {len(fronts)} (got {count})")
    rows = [np.asarray(front, dtype=np.float64).reshape(-1, 2) for front in fronts]
    first = np.unique(np.concatenate([row[:, 0] for row in rows]))
    best = np.sort([_lowest_second(row, first) for row in rows], axis=0)[count - 1]
    corners = np.column_stack([first, best])[np.isfinite(best)]
    surface: Floats = corners[pareto.non_dominated(corners)]
    return surface


def _lowest_second(front: Floats, first: Floats) -> Floats:
    """Returns the lowest second objective of a front up to each value of the first one, infinite below its start."""
    ordered = front[np.lexsort(front.T[::-1])]
    lowest = np.append(np.inf, np.minimum.accumulate(ordered[:, 1]))
    found: Floats = lowest[np.searchsorted(ordered[:, 0], first, side="right")]
    return found
