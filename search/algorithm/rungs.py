"""Rungs and brackets of successive halving: points by epoch, and the trials to promote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from search.algorithm import moasha
from search.algorithm.samplers import derive_seed
from search.space.space import Space

NUM_RANKED_FRONTS = 4
"""Fronts of a rung whose trials count as its best."""


@dataclass
class Rung:
    """The points of all trials at one epoch, to be minimised. Trials at chance level rank last."""

    factor: int
    margin: float
    points: moasha.PointTable = field(default_factory=moasha.PointTable)
    promoted: set[int] = field(default_factory=set)
    at_chance: set[int] = field(default_factory=set)
    _promotable: list[int] | None = None
    _ranks: dict[int, int] | None = None

    def add(self, number: int, point: Sequence[float], *, at_chance: bool) -> None:
        """Adds a trial's point. Adding it twice changes nothing."""
        if at_chance == (number in self.at_chance) and self.points.get(number) == list(point):
            return
        self.points[number] = list(point)
        if at_chance:
            self.at_chance.add(number)
        self._promotable = self._ranks = None

    def remove(self, number: int) -> None:
        """Removes a failed trial."""
        if self.points.pop(number, None) is not None:
            self._promotable = self._ranks = None

    def ranks(self) -> dict[int, int]:
        """Returns the rank, from 0, of the trials on the first fronts, without those at chance level."""
        if self._ranks is None:
            self._ranks = moasha.ranks(self.points, NUM_RANKED_FRONTS, self.at_chance)
        return self._ranks

    def promotable(self) -> list[int]:
        """Returns the trials that may be promoted and have not been, best first."""
        if self._promotable is None:
            self._promotable = moasha.promotable(self.points, self.factor, self.margin, self.at_chance)
        return [number for number in self._promotable if number not in self.promoted]

    def is_promoted_at_once(self, number: int) -> bool:
        """Returns whether a trial continues in mode `promote`.

        The first at a rung do, so that something is complete early, unless they are at chance level.
        """
        is_first = len(self.points) < self.factor and number not in self.at_chance
        return is_first or number in self.promotable()

    def survives(self, number: int) -> bool:
        """Returns whether a trial continues in mode `stop`."""
        return moasha.survives(self.points, number, self.factor, self.margin, self.at_chance)


class Bracket:
    """The rungs of the trials that share a first rung. `epochs` are those of the rungs and of a full training."""

    def __init__(self, epochs: Sequence[int], factor: int, margin: float) -> None:
        self.epochs = list(epochs)
        self.rungs = {epoch: Rung(factor, margin) for epoch in epochs[:-1]}

    @property
    def first_rung(self) -> Rung | None:
        return next(iter(self.rungs.values()), None)

    def next_rung(self, epoch: int) -> int:
        """Returns the epoch of the first rung after `epoch`, or that of a full training."""
        return next((rung for rung in self.epochs if rung > epoch), self.epochs[-1])

    def remove(self, number: int) -> None:
        """Removes a failed trial from all rungs."""
        for rung in self.rungs.values():
            rung.remove(number)

    def promotable(self) -> list[tuple[int, int]]:
        """Returns (epoch, trial) of all trials to promote, from the highest rung down, best first."""
        return [(epoch, number) for epoch in reversed(self.rungs) for number in self.rungs[epoch].promotable()]


class Brackets:
    """The brackets of a search: the first has all rungs, each further one lacks the lowest rung of the previous."""

    def __init__(self, space: Space) -> None:
        scheduler, epochs = space.settings.scheduler, space.rung_epochs()
        self._seed = space.settings.seed
        self._all = [
            Bracket(
                [*(epoch for epoch in epochs if epoch >= first), space.budget.epochs],
                scheduler.reduction_factor,
                scheduler.noise_margin,
            )
            for first in (epochs or [space.budget.epochs])[: scheduler.brackets]
        ]
        self.first = self._all[0]

    def __iter__(self) -> Iterator[Bracket]:
        return iter(self._all)

    def bracket_of(self, number: int) -> Bracket:
        """Returns a trial's bracket. Brackets with a later first rung get fewer trials, as in Hyperband."""
        if len(self._all) == 1:
            return self.first
        weights = [len(bracket.epochs) for bracket in self._all]
        share = derive_seed(self._seed, number, -1) / 2**32 * sum(weights)
        for bracket, weight in zip(self._all, weights, strict=True):
            share -= weight
            if share < 0:
                return bracket
        return self._all[-1]

    def ranks(self) -> dict[tuple[int, int], int]:
        """Returns the rank of each trial on the first fronts of a rung, by its number and the rung's epoch."""
        return {
            (number, epoch): rank
            for bracket in self
            for epoch, rung in bracket.rungs.items()
            for number, rank in rung.ranks().items()
        }
