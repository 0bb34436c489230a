"""Multi-objective asynchronous successive halving (Schmucker et al. 2021), as pure functions of numbers.

A trial is promoted if it is among the best 1/eta of all that have reached its rung. Fronts are peeled by non-dominated
sorting. From the front that is cut, an epsilon-net picks trials one by one, each farthest from those picked. Objectives
are scaled within the rung, so their units do not matter; ties go to the lower trial number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence

import numpy as np
from numpy.typing import NDArray

from results import pareto

RungPoints = Mapping[int, Sequence[float]]
"""The point of each trial that has reached an epoch; all objectives are minimised."""
Points = tuple[NDArray[np.int64], pareto.Floats]
"""Trial numbers [N] and their points [N, objectives]."""


class PointTable(MutableMapping[int, Sequence[float]]):
    """Points of a growing rung as arrays sorted by trial number, because rungs are sorted often."""

    def __init__(self, points: RungPoints | None = None) -> None:
        items = sorted((points or {}).items())
        self.numbers = np.array([number for number, _ in items], dtype=np.int64)
        self.rows: pareto.Floats = np.array([list(point) for _, point in items], dtype=np.float64)

    def __getitem__(self, number: int) -> list[float]:
        row: list[float] = self.rows[self._index(number)].tolist()
        return row

    def __setitem__(self, number: int, point: Sequence[float]) -> None:
        if number in self:
            self.rows[self._index(number)] = point
            return
        index = np.searchsorted(self.numbers, number)
        self.rows = np.insert(self.rows.reshape(-1, len(point)), index, point, axis=0)
        self.numbers = np.insert(self.numbers, index, number)

    def __delitem__(self, number: int) -> None:
        index = self._index(number)
        self.rows, self.numbers = np.delete(self.rows, index, axis=0), np.delete(self.numbers, index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers.tolist())

    def __len__(self) -> int:
        return len(self.numbers)

    def _index(self, number: int) -> int:
        index = int(np.searchsorted(self.numbers, number))
        if index == len(self.numbers) or self.numbers[index] != number:
            raise KeyError(number)
        return index


def survives(
    rung: RungPoints, trial: int, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()
) -> bool:
    """Returns whether a trial continues: among the best, or within the noise of the front.

    All continue while there are fewer than `reduction_factor` points. Those of `last` rank after all others.
    """
    if len(rung) < reduction_factor or trial in best(rung, math.ceil(len(rung) / reduction_factor), last):
        return True
    return margin > 0 and trial in within_noise(rung, margin, last)


def promotable(rung: RungPoints, reduction_factor: int, margin: float = 0.0, last: Collection[int] = ()) -> list[int]:
    """Returns the trials to promote, best first: a share of 1/eta rounded down, and those within the noise."""
    chosen = best(rung, len(rung) // reduction_factor, last)
    if margin > 0 and chosen:
        chosen += sorted(within_noise(rung, margin, last).difference(chosen))
    return chosen


def best(rung: RungPoints, count: int, last: Collection[int] = ()) -> list[int]:
    """Returns the `count` best trials of a rung, best first; the order of the mapping does not matter."""
    others, lowest = _split(rung, last)
    chosen = _best(others, count)
    return chosen + _best(lowest, count - len(chosen))


def within_noise(rung: RungPoints, margin: float, last: Collection[int] = ()) -> set[int]:
    """Returns the trials that no other beats by more than `margin` of the rung's range in every objective."""
    numbers, rows = _competing(rung, last)
    unit = pareto.normalize(rows)
    beaten = np.zeros(len(unit), dtype=bool)
    for row in unit[pareto.non_dominated(unit)]:
        beaten |= (row + margin <= unit + pareto.TIE_TOLERANCE).all(axis=1)
    return set(numbers[~beaten].tolist())


def front(rung: RungPoints, last: Collection[int] = ()) -> set[int]:
    """Returns the non-dominated trials, without those of `last` unless there are no others."""
    numbers, rows = _competing(rung, last)
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


def _best(points: Points, count: int) -> list[int]:
    numbers, rows = points
    if count < 1 or not len(numbers):
        return []
    fronts = pareto.non_dominated_sort(rows, count)
    chosen = [index for front in fronts[:-1] for index in front]
    cut, num_free = fronts[-1], count - len(chosen)
    if len(cut) > num_free:
        unit = pareto.normalize(rows)
        cut = [cut[pick] for pick in pareto.epsilon_net(unit[cut], num_free, unit[chosen])]
    found: list[int] = numbers[chosen + cut].tolist()
    return found


def _split(rung: RungPoints, last: Collection[int]) -> tuple[Points, Points]:
    """Returns the points of all trials but `last`, and those of `last`."""
    table = rung if isinstance(rung, PointTable) else PointTable(rung)
    is_last = np.isin(table.numbers, list(last))
    return (table.numbers[~is_last], table.rows[~is_last]), (table.numbers[is_last], table.rows[is_last])


def _competing(rung: RungPoints, last: Collection[int]) -> Points:
    """Returns the points of all trials but `last`, or of `last` if there are no others."""
    others, lowest = _split(rung, last)
    return others if len(others[0]) else lowest
