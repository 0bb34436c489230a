"""Multi-objective asynchronous successive halving (Schmucker et al. 2021), as pure functions over numbers.

At a rung, a trial goes on when it is among the best 1/eta of all that have reached that rung: fronts are peeled by
non-dominated sorting, and the front that is cut is thinned by an epsilon-net, the farthest point first. Objectives are
scaled within the rung, so their units do not matter; ties go to the lower trial number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence

import numpy as np
from numpy.typing import NDArray

from results import pareto

RungPoints = Mapping[int, Sequence[float]]
"""The point of each trial that reached an epoch, all objectives to be minimised."""

Numbers = NDArray[np.int64]


class PointTable(MutableMapping[int, Sequence[float]]):
    """A rung that grows point by point, kept as rows in the order of the trials' numbers, as it is sorted often."""

    def __init__(self, points: RungPoints | None = None) -> None:
        known = sorted((points or {}).items())
        self.numbers: Numbers = np.array([number for number, _ in known], dtype=np.int64)
        self.rows: pareto.Floats = np.array([list(point) for _, point in known], dtype=np.float64)

    def __getitem__(self, number: int) -> list[float]:
        row: list[float] = self.rows[self._find(number)].tolist()
        return row

    def __setitem__(self, number: int, point: Sequence[float]) -> None:
        place = self._position(number)
        if self._is_at(place, number):
            self.rows[place] = point
        else:
            self.rows = np.insert(self.rows.reshape(-1, len(point)), place, point, axis=0)
            self.numbers = np.insert(self.numbers, place, number)

    def __delitem__(self, number: int) -> None:
        place = self._find(number)
        self.rows, self.numbers = np.delete(self.rows, place, axis=0), np.delete(self.numbers, place)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers.tolist())

    def __len__(self) -> int:
        return len(self.numbers)

    def _find(self, number: int) -> int:
        place = self._position(number)
        if not self._is_at(place, number):
            raise KeyError(number)
        return place

    def _position(self, number: int) -> int:
        return int(np.searchsorted(self.numbers, number))

    def _is_at(self, place: int, number: int) -> bool:
        return place < len(self.numbers) and bool(self.numbers[place] == number)


def survives(
    rung: RungPoints, trial: int, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()
) -> bool:
    """Returns whether `trial` goes on: it is among the best, or within the noise of those that nothing beats.

    With fewer than `reduction_factor` points there is nothing to compare with, and the trial goes on. Those of `last`
    come after all others.
    """
    if len(rung) < reduction_factor:
        return True
    if trial in best(rung, math.ceil(len(rung) / reduction_factor), last):
        return True
    return margin > 0 and trial in within_noise(rung, margin, last)


def promotable(rung: RungPoints, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()) -> list[int]:
    """Returns the trials that may go on, best first: a share of 1/eta rounded down, and those within the noise."""
    chosen = best(rung, len(rung) // reduction_factor, last)
    if margin > 0 and chosen:
        chosen += sorted(within_noise(rung, margin, last).difference(chosen))
    return chosen


def best(rung: RungPoints, count: int, last: Collection[int] = ()) -> list[int]:
    """Returns the `count` best trials of a rung, best first; the order of the mapping does not matter."""
    (numbers, rows), (behind, rows_behind) = _split(rung, last)
    chosen = _best(numbers, rows, count)
    return chosen + _best(behind, rows_behind, count - len(chosen))


def within_noise(rung: RungPoints, margin: float, last: Collection[int] = ()) -> set[int]:
    """Returns the trials that no other beats by more than `margin` of the rung's range in every objective."""
    numbers, rows = _rivals(rung, last)
    unit = pareto.scaled(rows)
    beaten = np.zeros(len(unit), dtype=bool)
    for row in unit[pareto.non_dominated(unit)]:
        beaten |= (row + margin <= unit + pareto.TIE).all(axis=1)
    return set(numbers[~beaten].tolist())


def front(rung: RungPoints, last: Collection[int] = ()) -> set[int]:
    """Returns the trials that no other dominates, those of `last` left out where there are others."""
    numbers, rows = _rivals(rung, last)
    return set(numbers[pareto.non_dominated(rows)].tolist())


def ranks(rung: RungPoints, fronts: int, last: Collection[int] = ()) -> dict[int, int]:
    """Returns the rank, from 0, of the trials on the first `fronts` fronts; those of `last` have none."""
    (numbers, rows), _ = _split(rung, last)
    found: dict[int, int] = {}
    for rank in range(fronts):
        is_next = pareto.non_dominated(rows)
        found |= dict.fromkeys(numbers[is_next].tolist(), rank)
        numbers, rows = numbers[~is_next], rows[~is_next]
    return found


def _best(numbers: Numbers, rows: pareto.Floats, count: int) -> list[int]:
    if count < 1 or not len(numbers):
        return []
    fronts = pareto.non_dominated_sort(rows, count)
    chosen = [index for front in fronts[:-1] for index in front]
    cut, room = fronts[-1], count - len(chosen)
    if len(cut) > room:
        unit = pareto.scaled(rows)
        cut = [cut[pick] for pick in pareto.epsilon_net(unit[cut], room, unit[chosen])]
    found: list[int] = numbers[chosen + cut].tolist()
    return found


def _split(
    rung: RungPoints, last: Collection[int]
) -> tuple[tuple[Numbers, pareto.Floats], tuple[Numbers, pareto.Floats]]:
    """Returns the numbers and rows of all but `last`, and those of `last`."""
    points = rung if isinstance(rung, PointTable) else PointTable(rung)
    is_last = np.isin(points.numbers, list(last))
    return (points.numbers[~is_last], points.rows[~is_last]), (points.numbers[is_last], points.rows[is_last])


def _rivals(rung: RungPoints, last: Collection[int]) -> tuple[Numbers, pareto.Floats]:
    """Returns the numbers and rows of all but `last`, or of `last` where there are no others."""
    others, behind = _split(rung, last)
    return others if len(others[0]) else behind
