"""Which of all possible next jobs promises most for its cost: trials that wait, and configs that nobody has tried.

The worth of a job is the hypervolume that its config is expected to add at full fidelity, times its chance of being
healthy, over the epochs that it is expected to take. Whoever is chosen is looked at again at its next rung,
or half way to it. Where no job promises much any more, those that wait and may be on the front come first.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtr

from results.pareto import Floats
from search.algorithm import prior
from search.algorithm.encoder import Encoder
from search.algorithm.failure_model import FailureModel, TrainingStage, training_stages
from search.algorithm.hypervolume_gain import HypervolumeGain, Scale, transform
from search.algorithm.samplers import config_key
from search.algorithm.surrogate import Measurement, Surrogate
from search.algorithm.trial import Trial
from search.space.schema import Constraint
from search.space.space import Space

MIN_TRIALS = 10
"""Trials at the first rung before anything is foretold."""
REFIT_GROWTH = 1.25
"""The data have grown so much before the forecast's shape is chosen anew."""
MAX_POOL = 1000
"""Configs that nobody has tried which are weighed at most; of a larger space, a draw."""
BANDWIDTH = 0.15
"""Reach of a recipe, as a share of the distance between opposite corners of the space."""
PRIOR_WEIGHT = 3.0
"""How much more a recipe itself is worth than its forecast, times the odds that the next good config is near one."""

OPTIMISM_DISCOUNT = {0: 0.5, 1: 0.7}
"""How much a forecast counts before the first look, and before the second: the best of many is thought too good."""

MIN_RELATIVE_GAIN = 0.001
"""Where no job promises so much of the volume that is held, trials that wait and may be on the front come first."""
MIN_FRONT_PROBABILITY = 0.05
"""A trial may be on the front by this chance that its config, trained with another seed, would be."""


@dataclass(frozen=True)
class Candidate:
    """A possible next job: a trial that waits (its number and epochs), or a new config and where it is from."""

    values: Mapping[str, Any]
    number: int = -1
    epoch: int = 0
    source: str = "sampler"


@dataclass(frozen=True)
class FittedShapes:
    """What is learned of the forecast's shape, for each objective, and from how many observations."""

    observations: int = 0
    shapes: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of a trial with so many epochs and this failure: what was measured at each rung, and its stages.

    `reached` are the objectives of its read-outs, if it is complete, that keep within the bounds.
    """

    moment: tuple[int, str | None]
    observed: list[Measurement]
    stages: list[TrainingStage]
    reached: list[list[float]]


class Acquisition:
    """Weighs options by what is known of a study's trials."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.encode = Encoder(space)
        self.names = tuple(space.objectives)
        bounds = space.settings.constraints
        self.bounded_metrics = space.measured_constraints()
        """They are foretold too."""
        self._bounds = [_on_scale(name, bounds[name]) for name in self.bounded_metrics]
        self.signs = [1.0 if goal == "maximize" else -1.0 for goal in space.objectives.values()]
        self._grid: list[tuple[str, Candidate]] | None = None
        self.levels = [*space.milestones(), space.budget.epochs]
        self.fit = FittedShapes()
        """Learned anew now and then; a search that goes on gets that of its earlier run, so that it decides alike."""
        self._fitted: tuple[Sequence[Measurement], Surrogate] | None = None
        self._hazard: FailureModel | None = None
        self.submit: Callable[[Callable[[], None]], Callable[[], object]] = lambda work: work
        """Has work begun, in a thread say, and returns what waits for its end; by itself it is done when waited for."""
        self._learning: Callable[[], object] | None = None
        self._known: dict[int, Evidence] = {}

    def is_ready(self, records: Mapping[int, Trial]) -> bool:
        """Returns whether enough has been measured to foretell anything."""
        own = (record for record in records.values() if record.seed_of is None)
        measured = (record for record in own if not record.epochs.keys().isdisjoint(self.levels))
        return sum(1 for _ in itertools.islice(measured, MIN_TRIALS)) == MIN_TRIALS

    def select(
        self,
        records: Mapping[int, Trial],
        options: Sequence[Candidate],
        seed: int,
        recipes: Sequence[Mapping[str, Any]] = (),
        odds: float = 0.0,
    ) -> Candidate:
        """Returns the most promising option, the first of equal ones.

        What is near `recipes` is worth more, by the `odds` that the next good config is one of those.
        """
        if self._learning is not None:
            self._learning()
            self._learning = None
        known = self._all_evidence(records)
        observed = _observed(known)
        fitted, hazard = self._fit(observed), self._fit_failure_model(known)
        running = [r for r in records.values() if r.seed_of is None and r.state == "running"]
        goals = len(self.names)
        reached = np.array([y for one in known for y in one.reached]).reshape(-1, goals)
        if running:
            coming, _ = fitted.predict(self.encode([r.suggestion.values for r in running]), [r.number for r in running])
            reached = np.concatenate([reached, coming[:, :goals]])
        scale = Scale.of(self.names, self.signs, np.array([o.y for o in observed])[:, :goals], self._limits())
        places = self.encode([option.values for option in options])
        means, deviations = fitted.predict(places, [option.number for option in options])
        held = HypervolumeGain(reached, scale, seed)
        begun = [self._next_stage(option, place) for option, place in zip(options, places.tolist(), strict=True)]
        alive, epochs = hazard.survival(begun)
        alive *= self._within(means[:, goals:], deviations[:, goals:])
        gain = alive * held.expected(means[:, :goals], deviations[:, :goals])
        gain *= np.array([OPTIMISM_DISCOUNT.get(one.stage, 1.0) for one in begun])
        gain *= 1.0 + PRIOR_WEIGHT * odds * self.similarity(recipes, [option.values for option in options])
        waiting = np.array([option.number >= 0 for option in options])
        if waiting.any() and gain.max() < MIN_RELATIVE_GAIN * held.volume:
            again, spread = fitted.predict(places, [-1] * len(options))
            chance = waiting * alive * held.front_probability(again[:, :goals], spread[:, :goals])
            if chance.max() >= MIN_FRONT_PROBABILITY:
                return options[int(np.argmax(chance / epochs))]
        return options[int(np.argmax(gain / epochs))]

    def prefit(self, records: Mapping[int, Trial]) -> None:
        """Begins to learn what `best` would learn first if it is asked next, by whatever `submit` says."""
        self._learning = self.submit(partial(self._fit_surrogate, self._all_evidence(records)))

    def _fit_surrogate(self, known: Sequence[Evidence]) -> None:
        observed = _observed(known)
        if not self._is_grown(observed):  # a new shape is chosen when it is asked for, and at no other moment
            self._fit(observed)
        self._fit_failure_model(known)

    def pool(
        self, known: Container[str], center: Sequence[tuple[str, Mapping[str, Any]]], seed: int
    ) -> list[Candidate]:
        """Returns configs that nobody has tried: all of a small space, else a draw near the known ones and anywhere."""
        rng = random.Random(seed)
        if self.space.size() <= MAX_POOL:
            if self._grid is None:
                self._grid = [(config_key(values), Candidate(values)) for values in self.space.grid()]
            return [option for name, option in self._grid if name not in known]
        found = [Candidate(prior.sample_uniform(self.space, rng.randrange(2**31))) for _ in range(32)]
        for _ in range(32 if center else 0):
            source, values = rng.choice(center)
            found.append(Candidate(prior.sample_near(self.space, values, rng.randrange(2**31)), source=source))
        return [option for option in found if config_key(option.values) not in known]

    def similarity(self, recipes: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns how near each config is to the nearest recipe: 1 for the recipe itself, falling to 0."""
        if not recipes or not configs:
            return np.zeros(len(configs))
        apart = self.encode(configs)[:, None, :] - self.encode(recipes)[None, :, :]
        found: Floats = np.exp(-0.5 * (apart**2).mean(axis=2).min(axis=1) / BANDWIDTH**2)
        return found

    def _fit(self, observed: Sequence[Measurement]) -> Surrogate:
        """Fits to what was observed, if that is new; the shape is learned anew when there is a quarter more of it."""
        if self._fitted is None or self._fitted[0] != observed:
            is_grown = self._is_grown(observed)
            shapes = None if is_grown else self.fit.shapes
            self._fitted = observed, Surrogate(self.encode, observed, self.levels[-1], shapes)
            if is_grown:
                self.fit = FittedShapes(len(observed), self._fitted[1].shapes)
        return self._fitted[1]

    def _is_grown(self, observed: Sequence[Measurement]) -> bool:
        return len(observed) > REFIT_GROWTH * self.fit.observations

    def _fit_failure_model(self, known: Sequence[Evidence]) -> FailureModel:
        """Learns from the stages that trials went through; what is not new is not learned again."""
        went = [stage for one in known for stage in one.stages]
        if self._hazard is None:
            self._hazard = FailureModel(self.levels, self.encode.width, len(self.names) + len(self.bounded_metrics))
        self._hazard.fit(went)
        return self._hazard

    def _all_evidence(self, records: Mapping[int, Trial]) -> list[Evidence]:
        """Returns what is known of each trial, further seeds left out."""
        return [self._evidence_of(record) for record in records.values() if record.seed_of is None]

    def _evidence_of(self, record: Trial) -> Evidence:
        """Returns what is known of a trial, also of one that failed later."""
        moment = record.epoch, record.failure_class
        known = self._known.get(record.number)
        if known is None or known.moment != moment:
            values, number = record.suggestion.values, record.number
            seen = {epoch: self._y(record.epochs[epoch]) for epoch in self.levels if epoch in record.epochs}
            observed = [Measurement(values, number, epoch, y) for epoch, y in seen.items()]
            went = training_stages(record, self.encode([values])[0].tolist(), self.levels, seen)
            known = self._known[number] = Evidence(moment, observed, went, self._reached(record))
        return known

    def _reached(self, record: Trial) -> list[list[float]]:
        """Returns the objectives of a complete trial's read-outs that keep within the bounds."""
        full = record.read_outs if record.state == "complete" else []
        found = [self._y({**record.epochs[self.levels[-1]], **read_out}) for read_out in full]
        goals = len(self.names)
        return [y[:goals] for y in found if self._allows(y[goals:])]

    def _next_stage(self, option: Candidate, place: Sequence[float]) -> TrainingStage:
        """Returns the stage that an option would begin."""
        if not option.epoch:
            return TrainingStage(place, 0)
        stage = self.levels.index(option.epoch) + 1
        return TrainingStage(place, stage, self._known[option.number].observed[stage - 1].y)

    def _y(self, metrics: Mapping[str, float]) -> list[float]:
        """Returns the objectives, and metrics with bounds, on the scale on which they are foretold."""
        return [transform(name, metrics[name]) for name in (*self.names, *self.bounded_metrics)]

    def _allows(self, values: Sequence[float]) -> bool:
        return all(low <= value <= high for value, (low, high) in zip(values, self._bounds, strict=True))

    def _within(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the chance of each option that all of `kept` come to lie within their bounds."""
        chance: Floats = np.ones(len(means))
        for i, (low, high) in enumerate(self._bounds):
            below, above = ((limit - means[:, i]) / deviations[:, i] for limit in (low, high))
            chance *= ndtr(above) - ndtr(below)
        return chance

    def _limits(self) -> dict[str, float]:
        """Returns from where objectives count: accuracy from chance, and each from the constraint on it, if any."""
        limits = {"accuracy": 100.0 / float(self.space.base.get("num_classes") or 10)}
        for name, goal in self.space.objectives.items():
            bound = self.space.settings.constraints.get(name)
            limit = None if bound is None else bound.min if goal == "maximize" else bound.max
            if limit is not None:
                limits[name] = limit
        return limits


def _observed(known: Sequence[Evidence]) -> list[Measurement]:
    return [o for one in known for o in one.observed]


def _on_scale(name: str, bound: Constraint) -> tuple[float, float]:
    """Returns the lower and the upper bound of a metric, on the scale on which it is foretold."""
    low = -math.inf if bound.min is None else transform(name, bound.min)
    return low, math.inf if bound.max is None else transform(name, bound.max)
