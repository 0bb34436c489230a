"""Multi-objective asynchronous successive halving (Schmucker et al. 2021), as pure functions over numbers.

At a rung, a trial goes on when it is among the best 1/eta of all that have reached that rung: fronts are peeled by
non-dominated sorting, and the front that is cut is thinned by an epsilon-net, the farthest point first. Objectives are
scaled within the rung, so their units do not matter; ties go to the lower trial number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from results import pareto


def survives(rung: Mapping[int, Sequence[float]], trial: int, reduction_factor: int) -> bool:
    """Returns whether `trial` goes on, given the points (all to be minimised) of every trial at the rung.

    With fewer than `reduction_factor` points there is nothing to compare with, and the trial goes on.
    """
    if len(rung) < reduction_factor:
        return True
    return trial in best(rung, math.ceil(len(rung) / reduction_factor))


def best(rung: Mapping[int, Sequence[float]], count: int) -> list[int]:
    """Returns the `count` best trials of a rung, best first; the order of the mapping does not matter."""
    numbers = sorted(rung)
    points = [list(rung[number]) for number in numbers]
    fronts = pareto.non_dominated_sort(points, count)
    chosen = [index for front in fronts[:-1] for index in front]
    cut, room = fronts[-1], count - sum(len(front) for front in fronts[:-1])
    if len(cut) > room:
        unit = pareto.scaled(points)
        cut = [cut[pick] for pick in pareto.epsilon_net(unit[cut], room, unit[chosen])]
    return [numbers[index] for index in chosen + cut]
