"""Where a search's new configs come from: what somebody wants to be run, published recipes, and the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.pareto import Floats
from search.algorithm import moasha, observations, prior, samplers
from search.algorithm.prefetching import SLOW, Ahead
from search.algorithm.rungs import Bracket, Rung
from search.algorithm.samplers import Draw, Seen
from search.algorithm.trial import Record
from search.space.schema import BLIND
from search.space.space import Space

Config = Mapping[str, Any]
Near = Callable[[Sequence[Config], Sequence[Config]], Floats]
"""Tells how near each config is to the nearest recipe: 1 for the recipe itself, falling to 0."""

MAX_DUPLICATES = 5
"""Suggestions that are there already, after which the nearest one that is not is taken."""
NEAR = 0.5
"""A trial is one near a recipe from here on."""


class Draws:
    """The configs of one search's new trials. `records` and `first`, the bracket with all rungs, are the policy's."""

    def __init__(self, space: Space, records: Mapping[int, Record], first: Bracket, near: Near) -> None:
        self.space = space
        self.records = records
        self.first = first
        self.near = near
        self.added: list[dict[str, Any]] = []
        self.recipes = [(name, values) for name, values, problem in space.recipes() if problem is None]
        self.ahead = Ahead(space)
        self.known: dict[str, int] = {}
        """The first trial with the values that a name stands for, as `samplers.key` gives it."""
        self._is_slow = space.settings.sampler.name in SLOW
        self._is_blind = space.settings.sampler.name in BLIND

    def note(self, record: Record) -> None:
        """Takes in a trial, whose values are not drawn again."""
        self.known.setdefault(samplers.key(record.draw.values), record.number)

    def find(self, values: Config) -> int | None:
        """Returns the trial that has these values of the searched keys."""
        return self.known.get(samplers.key(values))

    def queued(self) -> tuple[Draw, str] | None:
        """Returns a config that somebody wants to be run before all others, and where it is from."""
        for name, values in [*(("added", values) for values in self.added), *self.recipes]:
            if self.find(values) is None:
                return samplers.fixed(self.space, values), name
        return None

    def next(self, *, evenly: bool = False) -> tuple[Draw, str] | None:
        """Returns the next config and where it is from; None where the space holds no more.

        With `evenly` it is drawn evenly from the whole space, whatever the sampler.
        """
        number = len(self.records)
        if (queued := self.queued()) is not None:
            return queued
        seen, odds = ([], 0.0) if evenly else (self._seen(), self.odds())
        for attempt in range(MAX_DUPLICATES):
            share = odds / (1.0 + odds)
            draw, source = self._even(number, attempt) if evenly else self._draw(number, attempt, seen, share)
            if self.find(draw.values) is None:
                return draw, source
        if self.space.size() > prior.LARGEST_GRID:
            return draw, source  # a config that is there already, rather than none
        neighbour = prior.nearest_new(self.space, draw.values, self.find)
        return None if neighbour is None else (samplers.fixed(self.space, neighbour), source)

    def begin_next(self) -> None:
        """Begins the draw after that of the newest trial, where the sampler is slow."""
        if self._is_slow:
            self.ahead.begin(len(self.records), observations.seen(self.space, self.records.values()))

    def centers(self) -> list[tuple[str, Config]]:
        """Returns the known configs near which new ones are drawn: the recipes, and the best of the first rung."""
        rung = self.first.rungs[self.first.levels[0]] if self.first.levels else Rung()
        best = sorted(moasha.front(rung.points, rung.at_chance)) if rung.points else []
        near = [(f"near t{n:04d}", self.records[n].draw.values) for n in best]
        return [*((f"prior {name}", values) for name, values in self.recipes), *near]

    def odds(self) -> float:
        """Returns the odds that the next draw is to be near a recipe: fewer with time, and by how those near did."""
        if not self.recipes or self._is_blind or not self.first.levels:
            return 0.0
        rung = self.first.rungs[self.first.levels[0]]
        good = moasha.best(rung.points, math.ceil(len(rung.points) / 3), rung.at_chance)
        compared = [self.records[number] for number in rung.points]
        nearness = self.near([values for _, values in self.recipes], [r.draw.values for r in compared])
        near = {record.number for record, how in zip(compared, nearness, strict=True) if how > NEAR}
        return prior.odds(len(near), len(near.intersection(good)), len(compared), len(good))

    def _even(self, number: int, attempt: int) -> tuple[Draw, str]:
        seed = samplers.draw_seed(self.space.settings.seed, number, attempt)
        return samplers.fixed(self.space, prior.anywhere(self.space, seed)), "even"

    def _draw(self, number: int, attempt: int, seen: list[Seen], near_recipes: float) -> tuple[Draw, str]:
        """Returns a draw near a recipe, while those do well, or the sampler's."""
        seed = samplers.draw_seed(self.space.settings.seed, number, attempt)
        if seed / 2**32 < near_recipes:
            name, values = self.recipes[seed % len(self.recipes)]
            return samplers.fixed(self.space, prior.around(self.space, values, seed)), f"prior {name}"
        if self._is_slow:
            if not self.ahead.is_begun:
                self._begin_again()
            return self.ahead.draw(number, attempt), "sampler"
        return samplers.suggest(self.space, number, seen, attempt), "sampler"

    def _seen(self) -> list[Seen]:
        """Returns what the sampler sees now; nothing where it looks at nothing, or draws ahead from what it saw."""
        is_asked = not self._is_slow and not self._is_blind
        return observations.seen(self.space, self.records.values()) if is_asked else []

    def _begin_again(self) -> None:
        """Begins the draw that was under way when the search was interrupted, from what was known at that moment."""
        opened = [
            number for number, record in self.records.items() if record.refused is None and record.seed_of is None
        ]
        known = dict(self.records)
        if opened:
            known[opened[-1]] = replace(known[opened[-1]], state="running", failure=None, epochs={})
        self.ahead.begin(len(self.records), observations.seen(self.space, known.values()))
