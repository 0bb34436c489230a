"""Multi-objective asynchronous successive halving (Schmucker et al. 2021), as pure functions over numbers.

At a rung, a trial goes on when it is among the best 1/eta of all that have reached that rung: fronts are peeled by
non-dominated sorting, and the front that is cut is thinned by an epsilon-net, the farthest point first. Objectives are
scaled within the rung, so their units do not matter; ties go to the lower trial number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from results import pareto

Rung = Mapping[int, Sequence[float]]
"""The point of each trial that reached an epoch, all objectives to be minimised."""


def survives(rung: Rung, trial: int, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()) -> bool:
    """Returns whether `trial` goes on: it is among the best, or within the noise of those that nothing beats.

    With fewer than `reduction_factor` points there is nothing to compare with, and the trial goes on. Those of `last`
    come after all others.
    """
    if len(rung) < reduction_factor:
        return True
    if trial in best(rung, math.ceil(len(rung) / reduction_factor), last):
        return True
    return margin > 0 and trial in spared(rung, margin, last)


def promotable(rung: Rung, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()) -> list[int]:
    """Returns the trials that may go on, best first: a share of 1/eta rounded down, and those within the noise."""
    chosen = best(rung, len(rung) // reduction_factor, last)
    if margin > 0 and chosen:
        chosen += sorted(spared(rung, margin, last).difference(chosen))
    return chosen


def best(rung: Rung, count: int, last: Collection[int] = ()) -> list[int]:
    """Returns the `count` best trials of a rung, best first; the order of the mapping does not matter."""
    behind = set(last) & rung.keys()
    ahead = {number: rung[number] for number in rung if number not in behind}
    chosen = _best(ahead, count)
    return chosen + _best({number: rung[number] for number in behind}, count - len(chosen))


def spared(rung: Rung, margin: float, last: Collection[int] = ()) -> set[int]:
    """Returns the trials that no other beats by more than `margin` of the rung's range in every objective."""
    numbers = sorted(rung.keys() - set(last)) or sorted(rung)
    unit = pareto.scaled([rung[number] for number in numbers])
    beaten = np.zeros(len(unit), dtype=bool)
    for row in unit[pareto.non_dominated(unit)]:
        beaten |= (row + margin <= unit + pareto.TIE).all(axis=1)
    return {number for number, is_beaten in zip(numbers, beaten, strict=True) if not is_beaten}


def front(rung: Rung, last: Collection[int] = ()) -> set[int]:
    """Returns the trials that no other dominates, those of `last` left out where there are others."""
    numbers = sorted(rung.keys() - set(last)) or sorted(rung)
    kept = pareto.non_dominated(np.array([rung[number] for number in numbers]).reshape(len(numbers), -1))
    return {number for number, good in zip(numbers, kept, strict=True) if good}


def ranks(rung: Rung, fronts: int, last: Collection[int] = ()) -> dict[int, int]:
    """Returns the rank, from 0, of the trials on the first `fronts` fronts; those of `last` have none."""
    numbers = sorted(rung.keys() - set(last))
    found = pareto.non_dominated_sort([rung[number] for number in numbers])[:fronts]
    return {numbers[position]: rank for rank, front in enumerate(found) for position in front}


def _best(rung: Rung, count: int) -> list[int]:
    if count < 1 or not rung:
        return []
    numbers = sorted(rung)
    points = [rung[number] for number in numbers]
    fronts = pareto.non_dominated_sort(points, count)
    chosen = [index for front in fronts[:-1] for index in front]
    cut, room = fronts[-1], count - sum(len(front) for front in fronts[:-1])
    if len(cut) > room:
        unit = pareto.scaled(points)
        cut = [cut[pick] for pick in pareto.epsilon_net(unit[cut], room, unit[chosen])]
    return [numbers[index] for index in chosen + cut]
