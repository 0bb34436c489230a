"""What to try next: Optuna's samplers, asked about the points of one rung only.

A suggestion depends on the seed, the trial's number and the history, not on a generator's state, so that a resumed
search draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from search.algorithm import prior
from search.space.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTED = datetime(2000, 1, 1)
"""Optuna's trials carry a time, which no sampler looks at."""


@dataclass(frozen=True)
class Suggestion:
    """One suggestion: the values of the active keys, and the same as Optuna stores them."""

    values: dict[str, Any]
    parameters: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    sampler_attrs: dict[str, Any] = field(default_factory=dict)
    """What the sampler wants to find on this trial again (NSGA's generation)."""


@dataclass(frozen=True)
class Observation:
    """One earlier trial, as a sampler sees it: its objectives at the rung it is compared at, None while it runs."""

    suggestion: Suggestion
    point: Sequence[float] | None
    violations: Mapping[str, float] = field(default_factory=dict)


def suggest(space: Space, number: int, history: Sequence[Observation], attempt: int = 0) -> Suggestion:
    """Returns the sampler's suggestion for trial `number`; `attempt` asks for another one in its place."""
    sampler = make_sampler(space, number, attempt)
    storage = _HistoryStorage([_frozen_trial(place, seen) for place, seen in enumerate(history, start=1)])
    view = optuna.create_study(storage=storage, directions=list(space.objectives.values()), sampler=sampler)
    trial = view.ask()
    values = space.suggest(trial)
    frozen = view.get_trials(deepcopy=False)[-1]
    return Suggestion(values, trial.params, trial.distributions, dict(frozen.system_attrs))


def config_key(values: Mapping[str, Any]) -> str:
    """Returns a text that is the same for the same values."""
    return json.dumps(values, sort_keys=True)


def as_suggestion(space: Space, values: Mapping[str, Any]) -> Suggestion:
    """Returns known values (a recipe's) in the form of a suggestion."""
    trial = FixedTrial(space.to_optuna(values))
    drawn = space.suggest(trial)
    return Suggestion(drawn, trial.params, trial.distributions)


def derive_seed(seed: int, number: int, attempt: int) -> int:
    """Returns the seed of one draw, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def make_sampler(space: Space, number: int, attempt: int = 0) -> BaseSampler:
    """Returns the space's Optuna sampler for a draw of trial `number`."""
    seed = derive_seed(space.settings.seed, number, attempt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers: dict[str, Any] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
            "nsga3": lambda: optuna.samplers.NSGAIIISampler(seed=seed, population_size=20),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "qmc": lambda: _NumberedQMC(space, number + attempt, optuna.samplers.RandomSampler(seed=seed)),
        }
        sampler = samplers[space.settings.sampler.name]()
    assert isinstance(sampler, BaseSampler)
    return sampler


class _NumberedQMC(QMCSampler):
    """Sobol's sequence over the keys that every trial has, at the trial's own position; the others are drawn at random.

    Optuna counts positions and finds the keys in the study, which is made anew here.
    """

    def __init__(self, space: Space, number: int, independent: BaseSampler) -> None:
        seed = space.settings.seed
        super().__init__(seed=seed, scramble=True, independent_sampler=independent, warn_independent_sampling=False)
        self._space, self._number = space, number

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        distributions = as_suggestion(self._space, prior.sample_uniform(self._space, 0)).distributions
        return {name: one for name, one in distributions.items() if name in self._space.keys}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class _HistoryStorage(InMemoryStorage):
    """Shows a sampler the trials that it may see, uncopied: copying them all would take longer than the draw."""

    def __init__(self, seen: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._seen = seen

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [*self._seen, *super().get_all_trials(study_id, deepcopy)]
        return found if states is None else [trial for trial in found if trial.state in states]


def _frozen_trial(place: int, seen: Observation) -> FrozenTrial:
    """Returns a trial as Optuna's samplers know it; place 0 is that of the trial that is asked for."""
    trial = FrozenTrial(
        number=place,
        trial_id=place,
        state=TrialState.RUNNING if seen.point is None else TrialState.COMPLETE,
        value=None,
        values=seen.point,
        datetime_start=STARTED,
        datetime_complete=None if seen.point is None else STARTED,
        params=seen.suggestion.parameters,
        distributions=seen.suggestion.distributions,
        user_attrs={},
        system_attrs=dict(seen.suggestion.sampler_attrs),  # Optuna writes the constraints into it
        intermediate_values={},
    )
    for name, violation in seen.violations.items():
        trial.set_constraint(name, violation)
    return trial
