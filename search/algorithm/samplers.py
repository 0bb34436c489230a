"""Optuna's samplers on the observations of one rung.

A suggestion depends on the seed, the trial's number and the history, not on the state of a generator. A resumed search
therefore suggests the same configs as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search.algorithm import prior
from search.algorithm.trial import Suggestion
from search.space.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=20),
    "gp": lambda seed: GPSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
"""Samplers by name, given a seed; `qmc` also needs the space and the trial's number."""


@dataclass(frozen=True)
class Observation:
    """An earlier trial as a sampler observes it: its objectives at one rung, None while it runs."""

    suggestion: Suggestion
    point: Sequence[float] | None
    violations: Mapping[str, float] = field(default_factory=dict)


def suggest(space: Space, number: int, history: Sequence[Observation], attempt: int = 0) -> Suggestion:
    """Returns the sampler's suggestion for trial `number`, another one for each `attempt`."""
    storage = _HistoryStorage([_frozen_trial(position, one) for position, one in enumerate(history, start=1)])
    sampler = make_sampler(space, number, attempt)
    study = optuna.create_study(storage=storage, directions=list(space.objectives.values()), sampler=sampler)
    trial = study.ask()
    values = space.suggest(trial)
    frozen = study.get_trials(deepcopy=False)[-1]
    return Suggestion(values, trial.params, trial.distributions, dict(frozen.system_attrs))


def config_key(values: Mapping[str, Any]) -> str:
    """Returns a text that is equal for equal values."""
    return json.dumps(values, sort_keys=True)


def as_suggestion(space: Space, values: Mapping[str, Any]) -> Suggestion:
    """Returns known values of the searched keys as a suggestion."""
    trial = FixedTrial(space.to_optuna(values))
    return Suggestion(space.suggest(trial), trial.params, trial.distributions)


def derive_seed(seed: int, number: int, attempt: int) -> int:
    """Returns the seed of one suggestion, a 32-bit integer that is the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def make_sampler(space: Space, number: int, attempt: int = 0) -> BaseSampler:
    """Returns the space's Optuna sampler for one suggestion of trial `number`."""
    name, seed = space.settings.sampler.name, derive_seed(space.settings.seed, number, attempt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _NumberedQMC(space, number + attempt, seed) if name == "qmc" else SAMPLERS[name](seed)


class _NumberedQMC(QMCSampler):
    """Sobol sequence over the unconditional keys, at the trial's number; other keys are sampled at random.

    Optuna counts positions and infers the keys from the study, which is new for each suggestion here.
    """

    def __init__(self, space: Space, number: int, seed: int) -> None:
        super().__init__(
            seed=space.settings.seed,
            scramble=True,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
        self._space, self._number = space, number

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        distributions = as_suggestion(self._space, prior.sample_uniform(self._space, 0)).distributions
        return {name: one for name, one in distributions.items() if name in self._space.keys}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class _HistoryStorage(InMemoryStorage):
    """Presents the observations to a sampler without copies, which would take longer than the suggestion."""

    def __init__(self, history: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._history = history

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [*self._history, *super().get_all_trials(study_id, deepcopy)]
        return trials if states is None else [trial for trial in trials if trial.state in states]


def _frozen_trial(position: int, observation: Observation) -> FrozenTrial:
    """Returns an observation as Optuna's trial. Position 0 belongs to the trial that is suggested."""
    trial = create_trial(
        state=TrialState.RUNNING if observation.point is None else TrialState.COMPLETE,
        values=observation.point,
        params=observation.suggestion.parameters,
        distributions=observation.suggestion.distributions,
        system_attrs=dict(observation.suggestion.sampler_attrs),  # copied, as Optuna adds the constraints
        constraints=dict(observation.violations),
    )
    trial.number = trial._trial_id = position
    return trial
