"""The rungs of a search: the points at each level, and who may go on from there. Pure, and kept as results come in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from search.algorithm import moasha, samplers
from search.space.space import Space

FRONTS = 2
"""Trials on so many fronts of their rung are among its best: the budget keeps epochs for them."""


@dataclass
class Rung:
    """One level: the points there, all to be minimised; who has gone on; who is no better than a guess."""

    points: moasha.PointTable = field(default_factory=moasha.PointTable)
    promoted: set[int] = field(default_factory=set)
    at_chance: set[int] = field(default_factory=set)
    _promotable: list[int] | None = None
    _ranks: dict[int, int] | None = None

    def add(self, number: int, point: Sequence[float], *, at_chance: bool) -> None:
        """Takes in a trial's point; again it changes nothing."""
        if at_chance == (number in self.at_chance) and self.points.get(number) == list(point):
            return
        self.points[number] = list(point)
        if at_chance:
            self.at_chance.add(number)
        self._promotable = self._ranks = None

    def remove(self, number: int) -> None:
        """Forgets a trial that failed: it is no rival."""
        if self.points.pop(number, None) is not None:
            self._promotable = self._ranks = None

    def ranks(self) -> dict[int, int]:
        """Returns the rank, from 0, of the trials on the first fronts, those of a guess left out."""
        if self._ranks is None:
            self._ranks = moasha.ranks(self.points, FRONTS, self.at_chance)
        return self._ranks

    def promotable(self, factor: int, margin: float) -> list[int]:
        """Returns the trials that may go on and have not, best first."""
        if self._promotable is None:
            self._promotable = moasha.promotable(self.points, factor, margin, self.at_chance)
        return [number for number in self._promotable if number not in self.promoted]


class Bracket:
    """The rungs of the trials that are first compared at the same epoch.

    They are compared at all `levels`; the budget carries who goes on at least to the next of the `goals` among them.
    """

    def __init__(self, levels: Sequence[int], promotion_epochs: Sequence[int], factor: int, margin: float) -> None:
        self.levels, self.goals = list(levels), list(promotion_epochs)
        self.factor, self.margin = factor, margin
        self.rungs = {level: Rung() for level in levels}

    def add(self, level: int, number: int, point: Sequence[float], *, at_chance: bool) -> None:
        """Takes in a trial's point at a level."""
        self.rungs[level].add(number, point, at_chance=at_chance)

    def remove(self, number: int) -> None:
        """Forgets a trial that failed."""
        for rung in self.rungs.values():
            rung.remove(number)

    def survives(self, level: int, number: int) -> bool:
        """Returns whether a trial that is stopped for good otherwise goes on."""
        rung = self.rungs[level]
        return moasha.survives(rung.points, number, self.factor, self.margin, rung.at_chance)

    def may_continue(self, level: int, number: int) -> bool:
        """Returns whether a trial is among those at a level that may go on."""
        return number in self.rungs[level].promotable(self.factor, self.margin)

    def promotable(self) -> list[tuple[int, int]]:
        """Returns (level, trial) of all that may go on, from the highest level down, the best first."""
        return [
            (level, number)
            for level in reversed(self.levels)
            for number in self.rungs[level].promotable(self.factor, self.margin)
        ]


class Brackets:
    """The brackets of a search, the first with all rungs and each other without one more of the lowest."""

    def __init__(self, space: Space) -> None:
        scheduler, rungs = space.settings.scheduler, space.rung_epochs()
        factor, margin = scheduler.reduction_factor, scheduler.noise_margin
        self.seed = space.settings.seed
        self._all = [
            Bracket([look for look in space.milestones() if look >= rungs[skipped]], rungs[skipped:], factor, margin)
            for skipped in range(min(scheduler.brackets, len(rungs)))
        ] or [Bracket([], [], factor, margin)]
        self.first = self._all[0]

    def __iter__(self) -> Iterator[Bracket]:
        return iter(self._all)

    def bracket_of(self, number: int) -> Bracket:
        """Returns a trial's bracket: a later first rung the more seldom it is, as in Hyperband."""
        if len(self._all) == 1:
            return self.first
        weights = [len(self.first.goals) - skipped + 1 for skipped in range(len(self._all))]
        share = samplers.derive_seed(self.seed, number, -1) / 2**32 * sum(weights)
        for bracket, weight in zip(self._all, weights, strict=True):
            share -= weight
            if share < 0:
                return bracket
        return self._all[-1]
