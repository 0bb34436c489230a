"""Ticks of small axes: at least three round values within a range, also on a logarithmic scale."""

from __future__ import annotations

import math

from config.distributions import Float, Integer

MOST = 6
FEWEST = 3
STEPS = (1.0, 2.0, 2.5, 5.0)
DIGITS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
"""First digits of logarithmic ticks, fewest first."""


def ticks(axis: Float | Integer) -> list[float]:
    """Returns three to six round values within a range; all values of a range with fewer."""
    low, high = float(axis.low), float(axis.high)
    if not low < high:
        return [low]
    if isinstance(axis, Integer) and len(axis.values()) <= MOST:
        return [float(value) for value in axis.values()]
    found = _logarithmic(low, high) if axis.log else []
    if len(found) < FEWEST:
        found = _linear(low, high)
    if isinstance(axis, Integer):
        found = [value for value in found if value == int(value)]
    return found if len(found) >= FEWEST else [low, (low + high) / 2, high]


def _linear(low: float, high: float) -> list[float]:
    """Returns the multiples of the smallest round step of which at most six lie within the range."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / MOST))
    step = next(s * magnitude for s in (*STEPS, 10.0) if _count(low, high, s * magnitude) <= MOST)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{(first + index) * step:.10g}") for index in range(_count(low, high, step))]


def _count(low: float, high: float, step: float) -> int:
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1


def _logarithmic(low: float, high: float) -> list[float]:
    """Returns values with few first digits in each decade; of too many decades, evenly many are left out."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in DIGITS:
        values = [float(f"{digit * 10.0**decade:.6g}") for decade in decades for digit in digits]
        inside = [value for value in values if low <= value <= high]
        if len(inside) > MOST and len(found) >= FEWEST:
            return found
        found = inside
        if len(found) >= FEWEST + 1:
            break
    return found[:: math.ceil(len(found) / MOST)] if found else []
