"""Where a search's new configs come from: what somebody wants to be run, published recipes, and the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.pareto import Floats
from search.algorithm import moasha, observations, prior, samplers
from search.algorithm.prefetching import SLOW, Prefetcher
from search.algorithm.rungs import Bracket, Rung
from search.algorithm.samplers import Observation, Suggestion
from search.algorithm.trial import Trial
from search.space.schema import NON_ADAPTIVE
from search.space.space import Space

Config = Mapping[str, Any]
Similarity = Callable[[Sequence[Config], Sequence[Config]], Floats]
"""Tells how near each config is to the nearest recipe: 1 for the recipe itself, falling to 0."""

MAX_DUPLICATES = 5
"""Suggestions that are there already, after which the nearest one that is not is taken."""
SIMILAR = 0.5
"""A trial is one near a recipe from here on."""


class CandidateGenerator:
    """The configs of one search's new trials. `records` and `first`, the bracket with all rungs, are the policy's."""

    def __init__(self, space: Space, trials: Mapping[int, Trial], first: Bracket, near: Similarity) -> None:
        self.space = space
        self.records = trials
        self.first = first
        self.near = near
        self.queue: list[dict[str, Any]] = []
        self.initial = [(name, values) for name, values, problem in space.initial_configs() if problem is None]
        self.prefetcher = Prefetcher(space)
        self.known: dict[str, int] = {}
        """The first trial with the values that a name stands for, as `samplers.key` gives it."""
        self._is_slow = space.settings.sampler.name in SLOW
        self._is_blind = space.settings.sampler.name in NON_ADAPTIVE

    def add_known(self, record: Trial) -> None:
        """Takes in a trial, whose values are not drawn again."""
        self.known.setdefault(samplers.config_key(record.suggestion.values), record.number)

    def find(self, values: Config) -> int | None:
        """Returns the trial that has these values of the searched keys."""
        return self.known.get(samplers.config_key(values))

    def next_queued(self) -> tuple[Suggestion, str] | None:
        """Returns a config that somebody wants to be run before all others, and where it is from."""
        for name, values in [*(("added", values) for values in self.queue), *self.initial]:
            if self.find(values) is None:
                return samplers.as_suggestion(self.space, values), name
        return None

    def next(self, *, evenly: bool = False) -> tuple[Suggestion, str] | None:
        """Returns the next config and where it is from; None where the space holds no more.

        With `evenly` it is drawn evenly from the whole space, whatever the sampler.
        """
        number = len(self.records)
        if (queued := self.next_queued()) is not None:
            return queued
        seen, odds = ([], 0.0) if evenly else (self._observations(), self.prior_probability())
        for attempt in range(MAX_DUPLICATES):
            share = odds / (1.0 + odds)
            draw, source = self._uniform(number, attempt) if evenly else self._suggest(number, attempt, seen, share)
            if self.find(draw.values) is None:
                return draw, source
        if self.space.size() > prior.LARGEST_GRID:
            return draw, source  # a config that is there already, rather than none
        neighbour = prior.nearest_untried(self.space, draw.values, self.find)
        return None if neighbour is None else (samplers.as_suggestion(self.space, neighbour), source)

    def prefetch_next(self) -> None:
        """Begins the draw after that of the newest trial, where the sampler is slow."""
        if self._is_slow:
            self.prefetcher.start(len(self.records), observations.for_sampler(self.space, self.records.values()))

    def centers(self) -> list[tuple[str, Config]]:
        """Returns the known configs near which new ones are drawn: the recipes, and the best of the first rung."""
        rung = self.first.rungs[self.first.levels[0]] if self.first.levels else Rung()
        best = sorted(moasha.front(rung.points, rung.at_chance)) if rung.points else []
        similarity = [(f"near t{n:04d}", self.records[n].suggestion.values) for n in best]
        return [*((f"prior {name}", values) for name, values in self.initial), *similarity]

    def prior_probability(self) -> float:
        """Returns the odds that the next draw is to be near a recipe: fewer with time, and by how those near did."""
        if not self.initial or self._is_blind or not self.first.levels:
            return 0.0
        rung = self.first.rungs[self.first.levels[0]]
        good = moasha.best(rung.points, math.ceil(len(rung.points) / 3), rung.at_chance)
        compared = [self.records[number] for number in rung.points]
        nearness = self.near([values for _, values in self.initial], [r.suggestion.values for r in compared])
        near = {record.number for record, how in zip(compared, nearness, strict=True) if how > SIMILAR}
        return prior.probability(len(near), len(near.intersection(good)), len(compared), len(good))

    def _uniform(self, number: int, attempt: int) -> tuple[Suggestion, str]:
        seed = samplers.derive_seed(self.space.settings.seed, number, attempt)
        return samplers.as_suggestion(self.space, prior.sample_uniform(self.space, seed)), "even"

    def _suggest(
        self, number: int, attempt: int, seen: list[Observation], near_recipes: float
    ) -> tuple[Suggestion, str]:
        """Returns a draw near a recipe, while those do well, or the sampler's."""
        seed = samplers.derive_seed(self.space.settings.seed, number, attempt)
        if seed / 2**32 < near_recipes:
            name, values = self.initial[seed % len(self.initial)]
            return samplers.as_suggestion(self.space, prior.sample_near(self.space, values, seed)), f"prior {name}"
        if self._is_slow:
            if not self.prefetcher.is_started:
                self._restart_prefetch()
            return self.prefetcher.result(number, attempt), "sampler"
        return samplers.suggest(self.space, number, seen, attempt), "sampler"

    def _observations(self) -> list[Observation]:
        """Returns what the sampler sees now; nothing where it looks at nothing, or draws ahead from what it saw."""
        is_asked = not self._is_slow and not self._is_blind
        return observations.for_sampler(self.space, self.records.values()) if is_asked else []

    def _restart_prefetch(self) -> None:
        """Begins the draw that was under way when the search was interrupted, from what was known at that moment."""
        opened = [
            number for number, record in self.records.items() if record.infeasible is None and record.seed_of is None
        ]
        tried = dict(self.records)
        if opened:
            tried[opened[-1]] = replace(tried[opened[-1]], state="running", failure_class=None, epochs={})
        self.prefetcher.start(len(self.records), observations.for_sampler(self.space, tried.values()))
