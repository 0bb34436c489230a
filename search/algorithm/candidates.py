"""Candidate generation: the user's own configs, published recipes, and the sampler."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config.errors import InfeasibleError
from search.algorithm import moasha, observations, prior, samplers
from search.algorithm.encoder import Encoder
from search.algorithm.mobo import UNIFORM_SHARE, ModelSampler
from search.algorithm.prefetching import SLOW, Prefetcher
from search.algorithm.rungs import Brackets
from search.algorithm.samplers import Observation
from search.algorithm.trial import Suggestion, Trial
from search.space.objectives import is_violating
from search.space.schema import NON_ADAPTIVE
from search.space.space import Space

if TYPE_CHECKING:
    from trainers.config import TrainConfig
    from trainers.epoch_metrics import EpochMetrics

Config = Mapping[str, Any]
Resolve = Callable[[Config], "TrainConfig"]
"""Returns the train file of a config. Raises InfeasibleError if it cannot be built or violates a static constraint."""

MAX_DUPLICATES = 5
"""Duplicate suggestions in a row before the nearest untried config replaces them."""
MODEL = "model"
"""Source of the configs that the model chose."""
MIN_SIMILARITY = 0.5
"""Similarity from which on a trial counts as near a recipe."""


class CandidateGenerator:
    """Generates the configs of new trials. `trials` and `brackets` are the scheduler's."""

    def __init__(self, space: Space, resolve: Resolve, trials: Mapping[int, Trial], brackets: Brackets) -> None:
        self.space, self.resolve, self.trials = space, resolve, trials
        self.encode = Encoder(space)
        self.model = ModelSampler(space, self.encode, lambda number: trials[number].suggestion.values)
        self.first = brackets.first
        self.queue: list[dict[str, Any]] = []
        """Configs that the user added, which run before all others."""
        self.initial = [(name, values) for name, values, problem in space.initial_configs if problem is None]
        self.prefetcher = Prefetcher(space)
        self.evaluated: dict[str, int] = {}
        """The first trial of each config, by `samplers.config_key`."""
        self._has_model = space.settings.sampler.name == "mobo"
        self._is_slow = space.settings.sampler.name in SLOW

    def add_evaluated(self, trial: Trial) -> None:
        """Adds a trial. Its config counts as a duplicate from then on."""
        self.evaluated.setdefault(samplers.config_key(trial.suggestion.values), trial.number)
        if trial.failure_class is not None and trial.seed_of is None:
            self.observe_failure(trial.number, trial.failure_class)

    def observe(self, number: int, report: EpochMetrics) -> None:
        """Adds an epoch of a trial to the observations of the model."""
        if self._has_model and report.epoch in self.model.tables:
            point, at_chance = observations.ranked_point(self.space, report)
            violating = is_violating(self.space, report.at_step)
            self.model.add(number, report.epoch, point, at_chance=at_chance, is_violating=violating)

    def observe_failure(self, number: int, failure_class: str) -> None:
        """Adds a failure to the observations of the model."""
        if failure_class in (*observations.CONFIG_FAILURES, "infeasible"):
            self.model.add_failed(number)
        else:
            self.model.remove(number)

    def find(self, values: Config) -> int | None:
        """Returns the trial that has these values of the searched keys."""
        return self.evaluated.get(samplers.config_key(values))

    def trial_of(self, suggestion: Suggestion, source: str) -> Trial:
        """Returns a new trial, failed as infeasible if its config is refused."""
        number = len(self.trials)
        try:
            return Trial(number, suggestion, self.resolve(suggestion.values).dump(), source=source)
        except InfeasibleError as error:
            config = {**self.space.base, **suggestion.values}
            return Trial(number, suggestion, config, "failed", "infeasible", str(error), source=source)

    def next_queued(self) -> tuple[Suggestion, str] | None:
        """Returns the next untried config that was added or is in `start_with`, and its source."""
        for source, values in [*(("added", values) for values in self.queue), *self.initial]:
            if self.find(values) is None:
                return samplers.as_suggestion(self.space, values), source
        return None

    def next(self, *, evenly: bool = False) -> tuple[Suggestion, str] | None:
        """Returns the next config and its source, or None if the space is exhausted.

        With `evenly`, the config is sampled uniformly from the space with any sampler.
        """
        if (queued := self.next_queued()) is not None:
            return queued
        history, odds = ([], 0.0) if evenly else (self._history(), self.prior_odds())
        for attempt in range(MAX_DUPLICATES):
            suggestion, source = self._suggest(attempt, history, odds, evenly)
            if self.find(suggestion.values) is None:
                return suggestion, source
        if self.space.size() > prior.MAX_GRID:
            return suggestion, source  # a duplicate rather than nothing
        neighbour = prior.nearest_untried(self.space, suggestion.values, self.find)
        return None if neighbour is None else (samplers.as_suggestion(self.space, neighbour), source)

    def prefetch_next(self) -> None:
        """Starts the suggestion for the next trial early if the sampler is slow."""
        if self._is_slow:
            self.prefetcher.start(len(self.trials), observations.for_sampler(self.space, self.trials.values()))

    def prior_odds(self) -> float:
        """Returns the odds that the next config is sampled near a recipe. They fall with time and with poor results."""
        rung = self.first.first_rung
        if not self.initial or rung is None or self.space.settings.sampler.name in NON_ADAPTIVE:
            return 0.0
        good = moasha.best(rung.points, math.ceil(len(rung.points) / 3), rung.at_chance)
        compared = list(rung.points)
        configs = [self.trials[number].suggestion.values for number in compared]
        similarity = self.encode.similarity([values for _, values in self.initial], configs)
        near = {number for number, value in zip(compared, similarity, strict=True) if value > MIN_SIMILARITY}
        return prior.odds(len(near), len(near.intersection(good)), len(compared), len(good))

    def _suggest(
        self, attempt: int, history: list[Observation], prior_odds: float, evenly: bool
    ) -> tuple[Suggestion, str]:
        space, number = self.space, len(self.trials)
        seed = samplers.derive_seed(space.settings.seed, number, attempt)
        if evenly:
            return samplers.as_suggestion(space, prior.sample_uniform(space, seed)), "even"
        if seed / 2**32 < prior_odds / (1.0 + prior_odds):
            name, values = self.initial[seed % len(self.initial)]
            return samplers.as_suggestion(space, prior.sample_near(space, values, seed)), f"prior {name}"
        if self._has_model:
            return self._suggest_by_model(seed)
        if not self._is_slow:
            return samplers.suggest(space, number, history, attempt), "sampler"
        if not self.prefetcher.is_started:
            self._restart_prefetch()
        return self.prefetcher.result(number, attempt), "sampler"

    def _suggest_by_model(self, seed: int) -> tuple[Suggestion, str]:
        """Returns a uniform sample, or a config that the model chooses if it is ready."""
        space, rng = self.space, random.Random(seed)
        values = None
        if rng.random() >= UNIFORM_SHARE:
            values = self.model.suggest(rng.getrandbits(32), lambda candidate: self.find(candidate) is not None)
        if values is None:
            return samplers.as_suggestion(space, prior.sample_uniform(space, rng.getrandbits(32))), "uniform"
        return samplers.as_suggestion(space, values), MODEL

    def _history(self) -> list[Observation]:
        """Returns the present observations, unless the sampler prefetches from earlier ones."""
        return [] if self._is_slow or self._has_model else observations.for_sampler(self.space, self.trials.values())

    def _restart_prefetch(self) -> None:
        """Repeats the prefetch that an interruption of the search cut off, from the observations it had."""
        counted = [trial for trial in self.trials.values() if trial.is_counted]
        trials = dict(self.trials)
        if counted:
            last = counted[-1]
            trials[last.number] = replace(last, state="running", failure_class=None, epochs={})
        self.prefetcher.start(len(self.trials), observations.for_sampler(self.space, trials.values()))
