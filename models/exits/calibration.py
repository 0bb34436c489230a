"""Calibration of exit thresholds: the trade-off of accuracy and mean steps on images set aside for it.

Shapes: `T` steps, `B` images. Certainties are those of an exit rule; `correct` says which read-outs are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.exits.rules import Thresholds, exit_steps

MAX_CANDIDATES = 256
"""Thresholds that are compared: all certainties of the images, or this many of their quantiles."""
STEP_CANDIDATES = 48
"""Thresholds that are compared for one step."""
SWEEPS = 2
"""Passes over the steps, if each has a threshold of its own."""
DIGITS = 9
"""Most digits of a threshold."""


@dataclass(frozen=True)
class Calibrated:
    """Thresholds with the mean steps and the accuracy, in percent, of the images that they were chosen on.

    `number` identifies the point in its training: 1 keeps the accuracy of all steps, the others are spread.
    """

    number: int
    thresholds: Thresholds
    steps: float
    accuracy: float


@dataclass(frozen=True)
class _Candidate:
    """A common threshold of all steps, infinite for no early exit, and its outcome."""

    steps: float
    accuracy: float
    threshold: float


def calibrate(certainty_TB: Tensor, correct_TB: Tensor, points: int, *, by_step: bool = False) -> list[Calibrated]:
    """Returns up to `points` thresholds, in the order of their numbers.

    The first one has the fewest steps of all with at least the accuracy of T steps. The mean steps of the others are
    evenly spread between 1 and T. Thresholds with which no image exits early, or that an earlier point has, are left
    out. With `by_step` each step but the last has a threshold of its own.
    """
    if len(certainty_TB) < 2 or not certainty_TB.numel():
        return []
    thresholds = [float("inf"), *_candidates(certainty_TB[:-1], MAX_CANDIDATES)]
    candidates = [_Candidate(*_measured(certainty_TB, correct_TB, value), value) for value in thresholds]
    found: dict[Thresholds, Calibrated] = {}
    for number, chosen in enumerate(_spread(candidates, len(certainty_TB), points), start=1):
        if math.isinf(chosen.threshold):
            continue
        value = _by_step(certainty_TB, correct_TB, chosen.threshold) if by_step else chosen.threshold
        found.setdefault(value, Calibrated(number, value, *_measured(certainty_TB, correct_TB, value)))
    return list(found.values())


def _spread(candidates: list[_Candidate], steps: int, points: int) -> Iterator[_Candidate]:
    """Yields the candidate that keeps the accuracy without exits, then those nearest to evenly spread mean steps."""
    whole = next(found.accuracy for found in candidates if math.isinf(found.threshold))
    yield min((found for found in candidates if found.accuracy >= whole), key=lambda found: found.steps)
    best = _non_dominated(candidates)
    for i in range(1, points):
        target = 1.0 + (steps - 1) * i / points
        yield min(best, key=lambda found: (abs(found.steps - target), -found.accuracy))


def _non_dominated(candidates: list[_Candidate]) -> list[_Candidate]:
    """Returns the candidates that are more accurate than all with fewer steps."""
    best: list[_Candidate] = []
    for found in sorted(candidates, key=lambda found: (found.steps, -found.accuracy)):
        if not best or found.accuracy > best[-1].accuracy:
            best.append(found)
    return best


def _candidates(certainty: Tensor, most: int) -> list[float]:
    """Returns thresholds that tell all certainties apart, in ascending order; of many certainties, their quantiles."""
    values = torch.unique(certainty.double())
    if len(values) > most:
        values = values[torch.linspace(0, len(values) - 1, most, device=values.device).round().long()]
    ordered = values.tolist()
    return [_short(value, below) for below, value in zip([-math.inf, *ordered], ordered, strict=False)]


def _short(value: float, below: float) -> float:
    """Returns the number of the fewest digits that is above `below` and at most `value`."""
    for digits in range(DIGITS):
        rounded = float(math.floor(value * 10.0**digits) / 10.0**digits)
        if below < rounded <= value:
            return rounded
    return value


def _measured(certainty_TB: Tensor, correct_TB: Tensor, thresholds: Thresholds) -> tuple[float, float]:
    """Returns mean steps and accuracy in percent."""
    steps = exit_steps(certainty_TB, thresholds)
    right = correct_TB.gather(0, steps.unsqueeze(0) - 1).double().mean()
    return float(steps.double().mean()), 100.0 * float(right)


def _by_step(certainty_TB: Tensor, correct_TB: Tensor, start: float) -> tuple[float, ...]:
    """Returns a threshold for each step: from a common one, each in turn the most accurate with no more steps."""
    chosen = [start] * (len(certainty_TB) - 1)
    steps, accuracy = _measured(certainty_TB, correct_TB, chosen)
    for _ in range(SWEEPS):
        for t in range(len(chosen)):
            for value in _candidates(certainty_TB[t], STEP_CANDIDATES):
                tried = [*chosen[:t], value, *chosen[t + 1 :]]
                tried_steps, tried_accuracy = _measured(certainty_TB, correct_TB, tried)
                if tried_steps <= steps and (tried_accuracy, -tried_steps) > (accuracy, -steps):
                    chosen, steps, accuracy = tried, tried_steps, tried_accuracy
    return tuple(chosen)
