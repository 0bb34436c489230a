"""Cost-aware acquisition over paused trials and new configs.

The score of a candidate is its expected hypervolume improvement after a full training, times its probability of
training without failure, over its expected epochs. Once no candidate promises a notable improvement, paused trials that
may be on the Pareto front take precedence.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
from search.space.space import Space

MIN_TRIALS = 10
"""Measured trials before the first prediction."""
REFIT_GROWTH = 1.25
"""Growth of the number of measurements after which kernel parameters are selected again."""
MAX_POOL, NUM_UNIFORM, NUM_NEAR = 1000, 32, 32
"""Size up to which all new configs of a space are candidates; else numbers of samples of it and near known configs."""
PRIOR_BANDWIDTH, PRIOR_WEIGHT = 0.15, 3.0
"""Reach of a prior config, as a share of the diagonal of the unit cube, and its weight, times the prior odds."""
OPTIMISM_DISCOUNT = {0: 0.5, 1: 0.7}
"""Factor on the improvement by training stage, as the best of many predictions is overestimated (optimizer's curse)."""
MIN_RELATIVE_GAIN, MIN_FRONT_PROBABILITY = 0.001, 0.05
"""If no candidate adds this share of the attained hypervolume, paused trials take precedence that would, with another
seed, be on the front with this probability."""

Config = Mapping[str, Any]
Trials = Mapping[int, Trial]


@dataclass(frozen=True)
class Candidate:
    """A possible next job: a paused trial, by its number and epochs, or a new config and its source."""

    values: Config
    number: int = -1
    epoch: int = 0
    source: str = "sampler"


@dataclass(frozen=True)
class FittedKernels:
    """Kernel parameters selected for each objective, and the number of observations at that time."""

    observations: int = 0
    shapes: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Evidence:
    """Contribution of one trial, or of all trials, to the models. `state` is a trial's (epoch, failure class).

    `attained` are the objectives of the read-outs of complete trials that satisfy the constraints.
    """

    measured: list[Measurement]
    stages: list[TrainingStage]
    attained: list[list[float]]
    state: tuple[int, str | None] | None = None


class Acquisition:
    """Selects among candidates by surrogate and failure model, fitted to the trials of one search."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.encode = Encoder(space)
        self.objectives = tuple(space.objectives)
        self.bounded_metrics = space.measured_constraints()
        self._metrics = (*self.objectives, *self.bounded_metrics)
        """Predicted by the surrogate."""
        self._low, self._high = np.array([self._bounds(name) for name in self.bounded_metrics]).reshape(-1, 2).T
        self._signs = [1.0 if direction == "maximize" else -1.0 for direction in space.objectives.values()]
        self._levels = [*space.milestones(), space.budget.epochs]
        self.chance = space.chance
        """Accuracy from which improvements count: that of the data once a trial has reported it."""
        self.fitted_kernels = FittedKernels()
        """Stored with the study, so that a resumed search makes the same decisions."""
        self._surrogate: tuple[list[Measurement], Surrogate] | None = None
        self._failure_model = FailureModel(self._levels, self.encode.width, len(self._metrics))
        self._evidence: dict[int, Evidence] = {}
        self.submit: Callable[[Callable[[], None]], Callable[[], object]] = lambda work: work
        """Starts a function, for instance in a thread; returns one that waits for it, or by default runs it."""
        self._prefit_result: Callable[[], object] | None = None

    def is_ready(self, trials: Trials) -> bool:
        """Returns whether enough trials have been measured for a prediction."""
        originals = (trial for trial in trials.values() if trial.seed_of is None)
        measured = (trial for trial in originals if not trial.epochs.keys().isdisjoint(self._levels))
        return sum(1 for _ in itertools.islice(measured, MIN_TRIALS)) == MIN_TRIALS

    def select(
        self, trials: Trials, candidates: list[Candidate], seed: int, priors: Sequence[Config] = (), odds: float = 0.0
    ) -> Candidate:
        """Returns the candidate of the highest score, the first of equal ones.

        Configs near one of `priors` weigh more, by the odds that the next good config is near one.
        """
        if self._prefit_result is not None:
            self._prefit_result()
            self._prefit_result = None
        evidence = self._all_evidence(trials)
        surrogate = self._fit_surrogate(evidence.measured)
        self._failure_model.fit(evidence.stages)
        hypervolume = self._attained_hypervolume(trials, evidence, seed)

        configs, m = [candidate.values for candidate in candidates], len(self.objectives)
        x = self.encode(configs)
        means, deviations = surrogate.predict(x, [candidate.number for candidate in candidates])
        stages = [self._next_stage(candidate, row) for candidate, row in zip(candidates, x.tolist(), strict=True)]
        success, epochs = self._failure_model.survival(stages)
        success *= self._feasibility(means[:, m:], deviations[:, m:])

        gain = success * hypervolume.expected_improvement(means[:, :m], deviations[:, :m])
        gain *= np.array([OPTIMISM_DISCOUNT.get(stage.stage, 1.0) for stage in stages])
        gain *= 1.0 + PRIOR_WEIGHT * odds * self.similarity(priors, configs)
        paused = np.array([candidate.number >= 0 for candidate in candidates])
        if paused.any() and gain.max() < MIN_RELATIVE_GAIN * hypervolume.volume:
            means, deviations = surrogate.predict(x, [-1] * len(candidates))  # as if trained with another seed
            on_front = paused * success * hypervolume.front_probability(means[:, :m], deviations[:, :m])
            if on_front.max() >= MIN_FRONT_PROBABILITY:
                gain = on_front
        return candidates[int(np.argmax(gain / epochs))]

    def prefit(self, trials: Trials) -> None:
        """Starts, through `submit`, the fits that the next `select` needs first."""
        self._prefit_result = self.submit(partial(self._prefit, self._all_evidence(trials)))

    def pool(self, known: Container[str], centers: Sequence[tuple[str, Config]], seed: int) -> list[Candidate]:
        """Returns new configs: all of a small space, else a sample of the whole space and near `centers`."""
        if self.space.size() <= MAX_POOL:
            return [candidate for key, candidate in self._grid if key not in known]
        rng = random.Random(seed)
        found = [Candidate(prior.sample_uniform(self.space, rng.randrange(2**31))) for _ in range(NUM_UNIFORM)]
        for _ in range(NUM_NEAR if centers else 0):
            source, values = rng.choice(centers)
            found.append(Candidate(prior.sample_near(self.space, values, rng.randrange(2**31)), source=source))
        return [candidate for candidate in found if config_key(candidate.values) not in known]

    def similarity(self, priors: Sequence[Config], configs: Sequence[Config]) -> Floats:
        """Returns the similarity `[n]` of configs to the nearest of `priors`: 1 for itself, falling to 0."""
        if not priors or not configs:
            return np.zeros(len(configs))
        difference = self.encode(configs)[:, None, :] - self.encode(priors)[None, :, :]
        return np.asarray(np.exp(-0.5 * (difference**2).mean(axis=2).min(axis=1) / PRIOR_BANDWIDTH**2))

    @cached_property
    def _grid(self) -> list[tuple[str, Candidate]]:
        return [(config_key(values), Candidate(values)) for values in self.space.grid()]

    def _prefit(self, evidence: Evidence) -> None:
        if not self._is_grown(evidence.measured):  # kernels are selected at decisions alone, which a replay repeats
            self._fit_surrogate(evidence.measured)
        self._failure_model.fit(evidence.stages)

    def _fit_surrogate(self, measured: list[Measurement]) -> Surrogate:
        """Fits to new measurements; the kernels are selected again once there are a quarter more."""
        if self._surrogate is None or self._surrogate[0] != measured:
            is_grown = self._is_grown(measured)
            kernels = None if is_grown else self.fitted_kernels.shapes
            self._surrogate = measured, Surrogate(self.encode, measured, self._levels[-1], kernels)
            if is_grown:
                self.fitted_kernels = FittedKernels(len(measured), self._surrogate[1].kernels)
        return self._surrogate[1]

    def _is_grown(self, measured: list[Measurement]) -> bool:
        return len(measured) > REFIT_GROWTH * self.fitted_kernels.observations

    def _attained_hypervolume(self, trials: Trials, evidence: Evidence, seed: int) -> HypervolumeGain:
        """Returns the hypervolume of the attained points and of the predictions for running trials."""
        m = len(self.objectives)
        attained = np.array(evidence.attained).reshape(-1, m)
        running = [trial for trial in trials.values() if trial.seed_of is None and trial.state == "running"]
        if running:
            x = self.encode([trial.suggestion.values for trial in running])
            predicted, _ = self._fit_surrogate(evidence.measured).predict(x, [trial.number for trial in running])
            attained = np.concatenate([attained, predicted[:, :m]])
        measured = np.array([one.y[:m] for one in evidence.measured])
        return HypervolumeGain(attained, Scale.of(self.objectives, self._signs, measured, self._limits()), seed)

    def _all_evidence(self, trials: Trials) -> Evidence:
        """Returns the evidence of all trials but those that repeat a config with a further seed."""
        found = [self._evidence_of(trial) for trial in trials.values() if trial.seed_of is None]
        measured = [row for one in found for row in one.measured]
        stages = [stage for one in found for stage in one.stages]
        return Evidence(measured, stages, [y for one in found for y in one.attained])

    def _evidence_of(self, trial: Trial) -> Evidence:
        """Returns what a trial contributes, measurements before a failure included."""
        state, number, values = (trial.epoch, trial.failure_class), trial.number, trial.suggestion.values
        if number not in self._evidence or self._evidence[number].state != state:
            y = {epoch: self._transformed(trial.epochs[epoch]) for epoch in self._levels if epoch in trial.epochs}
            measured = [Measurement(values, number, epoch, row) for epoch, row in y.items()]
            stages = training_stages(trial, self.encode([values])[0].tolist(), self._levels, y)
            self._evidence[number] = Evidence(measured, stages, self._attained(trial), state)
        return self._evidence[number]

    def _attained(self, trial: Trial) -> list[list[float]]:
        """Returns the objectives of a complete trial's read-outs that satisfy the constraints."""
        m, read_outs = len(self.objectives), trial.read_outs if trial.state == "complete" else []
        rows = [self._transformed({**trial.epochs[self._levels[-1]], **read_out}) for read_out in read_outs]
        return [y[:m] for y in rows if np.all((self._low <= y[m:]) & (y[m:] <= self._high))]

    def _next_stage(self, candidate: Candidate, x: Sequence[float]) -> TrainingStage:
        """Returns the training stage that a candidate would start."""
        if not candidate.epoch:
            return TrainingStage(x, 0)
        level = self._levels.index(candidate.epoch)
        return TrainingStage(x, level + 1, self._evidence[candidate.number].measured[level].y)

    def _transformed(self, metrics: Mapping[str, float]) -> list[float]:
        """Returns objectives and bounded metrics on the scale of the surrogate."""
        return [self._scaled(name, metrics[name]) for name in self._metrics]

    def _scaled(self, name: str, value: float) -> float:
        return value if name in self.space.linear_metrics else transform(name, value)

    def _bounds(self, name: str) -> tuple[float, float]:
        bounds = self.space.constraint_bounds()[name]
        low = self._scaled(name, bounds["min"]) if "min" in bounds else -math.inf
        return low, self._scaled(name, bounds["max"]) if "max" in bounds else math.inf

    def _feasibility(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the probability `[P]` that predictions `[P, bounded metrics]` satisfy all constraints."""
        below_high, below_low = (ndtr((limit - means) / deviations) for limit in (self._high, self._low))
        return np.asarray(np.prod(below_high - below_low, axis=1))

    def _limits(self) -> dict[str, float]:
        """Returns the values from which improvements count, on their scale: chance, and constraints on objectives."""
        limits = {"accuracy": self.chance}
        for name, bounds in self.space.constraint_bounds().items():
            side = "min" if self.space.objectives.get(name) == "maximize" else "max"
            if name in self.objectives and side in bounds:
                limits[name] = bounds[side] if name == "accuracy" else self._scaled(name, bounds[side])
        return limits
