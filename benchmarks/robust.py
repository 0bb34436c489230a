"""Interquartile means with bootstrap intervals, and speed-ups between searches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from search.simulation.evaluation import HypervolumeCurve, value_at

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
TIE = 1e-9


def iqm(values: Floats) -> Floats:
    """Returns the mean of the middle half, over the first axis."""
    found: Floats = trim_mean(values, 0.25, axis=0)
    return found


def matrix(curves: Sequence[HypervolumeCurve], grid: Floats) -> Floats:
    """Returns the hypervolumes [repeats, len(grid)] at the spent epochs of `grid`."""
    return np.array([[value_at(curve, spent) for spent in grid] for curve in curves])


def interval(figure: Callable[[Rows], float], repeats: int, num_bootstraps: int) -> dict[str, float]:
    """Returns a figure of the repeats, given by their positions, with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    found = [figure(rng.integers(repeats, size=repeats)) for _ in range(num_bootstraps)]
    low, high = np.percentile(found, [2.5, 97.5])
    return {"value": figure(np.arange(repeats)), "low": float(low), "high": float(high)}


def first(mean: Floats, grid: Floats, target: float) -> float | None:
    """Returns the spent epochs at which a mean curve reaches the target, at least one step; None if it never does."""
    reached = np.flatnonzero(mean >= target - TIE)
    return float(grid[max(reached[0], 1)]) if len(reached) else None


def ratio(rival: Floats, ours: Floats, grid: Floats) -> float:
    """Returns the epochs that the rival spends to its final hypervolume, over those that ours spends to reach it.

    If ours never does, all of its epochs count.
    """
    theirs = iqm(rival)
    spent = first(theirs, grid, float(theirs[-1]))
    assert spent is not None
    return spent / (first(iqm(ours), grid, float(theirs[-1])) or float(grid[-1]))


def speedup(rival: Floats, ours: Floats, grid: Floats, num_bootstraps: int) -> dict[str, Any]:
    """Returns `ratio` with its interval over the repeats, and its parts.

    `rival` may end before `ours` does. `is_bound` is true if ours never reaches the rival's final hypervolume.
    """
    repeats = min(len(rival), len(ours))
    theirs = iqm(rival[:repeats])
    own = first(iqm(ours[:repeats]), grid, float(theirs[-1]))
    return {
        **interval(lambda rows: ratio(rival[rows], ours[rows], grid), repeats, num_bootstraps),
        "is_bound": own is None,
        "target": float(theirs[-1]),
        "rival_epochs": first(theirs, grid, float(theirs[-1])),
        "our_epochs": float(grid[-1]) if own is None else own,
        "repeats": repeats,
    }
