"""Step sizes of quantised weights, one for each output channel: `weight = integer x step`."""

from __future__ import annotations

import numpy as np

from models.chip.ops import Array

CLIPPING = np.linspace(0.4, 1.0, 31)
"""Tried shares of the largest weight that the largest integer stands for."""
POWERS = (-1.0, 0.0)
"""Tried exponents of two, against the one that holds the largest weight."""
ON_GRID = 1e-9
"""Largest distance from whole numbers, over the largest one, of weights that were trained as integers."""
MAX_PARTS = 16
"""Steps that the nearest two sizes of a row on a grid are tried to be apart."""


def levels(bits: int) -> tuple[int, int]:
    """Returns the lowest and the largest integer of a width."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def choose_steps(weight: Array, bits: int, *, powers_of_two: bool) -> tuple[Array, Array]:
    """Returns the step of each row of `weight` [O, I], and whether the row was a grid of that width already.

    A row on a grid, as quantisation-aware training leaves it, keeps its step. Others get the step of the least squared
    error: of shares of the largest weight, or of powers of two.
    """
    largest = np.abs(weight).max(1, initial=0.0)
    safe = np.where(largest > 0.0, largest, 1.0)
    grid = _grid_steps(weight, bits)
    full = safe / levels(bits)[1]
    tried = 2.0 ** (np.ceil(np.log2(full))[:, None] + POWERS) if powers_of_two else full[:, None] * CLIPPING
    errors = [((rounded(weight, step, bits) * step[:, None] - weight) ** 2).sum(1) for step in tried.T]
    best = tried[np.arange(len(weight)), np.argmin(errors, 0)]
    return np.where(grid > 0.0, grid, best), grid > 0.0


def rounded(weight: Array, step: Array, bits: int) -> Array:
    """Returns the integers of rows [O, I], as float64, clipped to the width."""
    return np.clip(np.rint(weight / step[:, None]), *levels(bits))


def _grid_steps(weight: Array, bits: int) -> Array:
    """Returns the step of which each row's weights are multiples within the width, or 0."""
    return np.array([_grid_step(row, bits) for row in weight])


def _grid_step(row: Array, bits: int) -> float:
    sizes = np.unique(np.append(np.abs(row), 0.0))
    gaps = np.diff(sizes)
    gaps = gaps[gaps > ON_GRID * sizes[-1] / 2**bits]
    if not gaps.size or row.size < 2:  # one weight is on any grid
        return 0.0
    for parts in range(1, MAX_PARTS + 1):
        step = float(gaps.min()) / parts
        ratios = row / step
        whole = np.rint(ratios)
        if whole.min() < levels(bits)[0] or whole.max() > levels(bits)[1]:
            break
        if np.abs(ratios - whole).max() < ON_GRID * levels(bits)[1]:
            return step
    return 0.0
