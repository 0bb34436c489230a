"""Trials in Optuna's database: their user attributes, how they are written and how they are read back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from results.from_optuna import trial_from_optuna
from results.study import TrialResult
from search.algorithm.trial import Decision, Suggestion, Trial
from search.space.objectives import constraint_violations, objective_vector
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

PROMOTED_AT, STOP_REASON, FAILURE = "promoted", "note", "failure"
EPOCH, RETRIED = "epoch_", "retried_"
"""Prefixes of the attributes of an epoch and of a retried class of failure."""


class OptunaTrials:
    """The trials of one study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._storage = study._storage

    def add(self, trial: Trial) -> None:
        """Creates a trial, running or refused."""
        attrs: dict[str, Any] = {"config": trial.config, "source": trial.source}
        attrs["sampler_notes"] = trial.suggestion.sampler_attrs
        if trial.seed_of is not None:
            attrs["seed_of"] = trial.seed_of
        if trial.infeasible is not None:
            attrs[FAILURE] = {"class": trial.failure_class, "reason": trial.reason}
        state = TrialState.RUNNING if trial.infeasible is None else TrialState.FAIL
        params, distributions = trial.suggestion.parameters, trial.suggestion.distributions
        self._study.add_trial(create_trial(state=state, params=params, distributions=distributions, user_attrs=attrs))

    def set_attr(self, number: int, key: str, value: Any) -> None:
        """Sets a user attribute of a trial."""
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def save_epoch(self, number: int, report: EpochMetrics, decision: Decision) -> None:
        """Stores an epoch together with the decision on it."""
        if decision != "continue":
            self.set_attr(number, "layers", report.layers)
        content: dict[str, Any] = {
            "metrics": report.metrics,
            "read_outs": report.read_outs,
            "outcome": decision,
            "time": time.time(),
        }
        if report.exits:
            content["exits"] = report.exits
        self.set_attr(number, f"{EPOCH}{report.epoch:04d}", content)

    def close(self, space: Space, trial: Trial) -> None:
        """Stores the final state of a trial, as `Study.tell` does, without reading the trial first."""
        trial_id, values, state = self._id(trial.number), None, TrialState.PRUNED
        if trial.state == "failed":
            self.set_attr(trial.number, FAILURE, {"class": trial.failure_class, "reason": trial.reason})
            state = TrialState.FAIL
        elif trial.state == "complete":
            metrics = trial.epochs[trial.epoch]
            for name, violation in constraint_violations(space, metrics).items():
                optuna.trial.Trial(self._study, trial_id).set_constraint(name, violation)
            values, state = objective_vector(space, metrics), TrialState.COMPLETE
        self._storage.set_trial_state_values(trial_id, state, values)

    def result(self, number: int) -> TrialResult:
        """Returns what a trial measured."""
        return trial_from_optuna(self._storage.get_trial(self._id(number)))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


def stored_trial(space: Space, frozen: FrozenTrial) -> Trial:
    """Returns a stored trial as the scheduler had it before its first epoch."""
    attrs, params = frozen.user_attrs, dict(frozen.params)
    values = space.suggest(FixedTrial(params))
    suggestion = Suggestion(values, params, dict(frozen.distributions), attrs.get("sampler_notes", {}))
    trial = Trial(frozen.number, suggestion, attrs["config"], source=attrs["source"], seed_of=attrs.get("seed_of"))
    trial.retried = {key.removeprefix(RETRIED) for key in attrs if key.startswith(RETRIED)}
    failure = attrs.get(FAILURE, {})
    if failure.get("class") == "infeasible":
        trial.state, trial.failure_class, trial.reason = "failed", "infeasible", failure["reason"]
    return trial


def stored_epochs(frozen: FrozenTrial) -> Iterator[tuple[EpochMetrics, Decision]]:
    """Yields the epochs of a stored trial in order, each with the decision on it."""
    stored = {int(key.removeprefix(EPOCH)): attr for key, attr in frozen.user_attrs.items() if key.startswith(EPOCH)}
    for epoch in sorted(stored):
        content = stored[epoch]
        exits = content.get("exits", [])
        yield EpochMetrics(epoch, content["metrics"], content["read_outs"], [], exits), content["outcome"]
