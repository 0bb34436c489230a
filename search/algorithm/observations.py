"""Observations for a sampler: one rung, the running trials, and the failures that the configs explain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from search.algorithm import moasha
from search.algorithm.samplers import Observation
from search.algorithm.trial import Trial
from search.space.objectives import constraint_violations, objective_vector
from search.space.schema import NON_ADAPTIVE
from search.space.space import Space

if TYPE_CHECKING:
    from trainers.epoch_metrics import EpochMetrics

MIN_POINTS = 10
"""Points that a rung needs before the sampler uses it instead of a lower one."""

THINNED = frozenset({"tpe", "gp"})
"""Samplers whose time grows with the number of observations. The others need whole generations, or none."""
MAX_OBSERVATIONS = 250
"""Measured trials that these use: the best quarter of this number, and an even selection of the others."""

CONFIG_FAILURES = frozenset({"silent", "saturated", "dead_layer", "no_gradient", "diverged", "at_chance", "oom"})
"""Classes of failure during training that the config explains."""


def for_sampler(space: Space, trials: Collection[Trial]) -> list[Observation]:
    """Returns the observations of the highest rung with enough points, of running trials and of failed ones.

    A config that failed or was refused gets the worst values observed and violated constraints, so that the sampler
    avoids its surroundings. A sampler that does not adapt gets no observations.
    """
    if space.settings.sampler.name in NON_ADAPTIVE:
        return []
    trials = [trial for trial in trials if trial.seed_of is None]
    epochs = [*space.rung_epochs(), space.budget.epochs]
    epoch = next((e for e in reversed(epochs) if len(_measured_at(trials, e)) >= MIN_POINTS), epochs[0])
    found = {trial.number: _observation(space, trial, epoch) for trial in _measured_at(trials, epoch)}
    failed = [trial for trial in trials if trial.failure_class in (*CONFIG_FAILURES, "infeasible")]
    if failed and found:
        found = _with_failures(space, found, failed)
    if space.settings.sampler.name in THINNED and len(found) > MAX_OBSERVATIONS:
        chosen = _representative(space, found)
        found = {number: one if number in chosen else replace(one, point=None) for number, one in found.items()}
    every = [(trial, found.get(trial.number, Observation(trial.suggestion, None))) for trial in trials]
    return [one for trial, one in every if one.point is not None or trial.state == "running"]


def ranked_point(space: Space, report: EpochMetrics) -> tuple[list[float], bool]:
    """Returns the point of an epoch, to be minimised, and whether it ranks last, as its accuracy is at chance level."""
    at_chance = report.is_at_chance and "accuracy" in space.objectives
    return objective_vector(space, report.at_step, minimise=True), at_chance


def representative(numbers: Iterable[int], best: Collection[int], count: int) -> set[int]:
    """Returns `count` trials that represent all: the best, and an even selection of the others in their order."""
    others, num_others = [number for number in numbers if number not in best], count - len(best)
    return {*best, *(others[i * len(others) // num_others] for i in range(num_others))}


def _measured_at(trials: Collection[Trial], epoch: int) -> list[Trial]:
    return [trial for trial in trials if epoch in trial.epochs and trial.state != "failed"]


def _observation(space: Space, trial: Trial, epoch: int) -> Observation:
    metrics = trial.epochs[epoch]
    return Observation(trial.suggestion, objective_vector(space, metrics), constraint_violations(space, metrics))


def _with_failures(
    space: Space, measured: Mapping[int, Observation], failed: Collection[Trial]
) -> dict[int, Observation]:
    """Adds failed trials, with one more constraint `health` that they alone violate."""
    columns = zip(*(one.point or () for one in measured.values()), strict=True)
    directions = zip(space.objectives.values(), columns, strict=True)
    worst = [min(column) if direction == "maximize" else max(column) for direction, column in directions]
    names = {name: 1.0 for one in measured.values() for name in one.violations}
    healthy = {n: replace(one, violations={**one.violations, "health": 0.0}) for n, one in measured.items()}
    return healthy | {t.number: Observation(t.suggestion, worst, {**names, "health": 1.0}) for t in failed}


def _representative(space: Space, observed: Mapping[int, Observation]) -> set[int]:
    """Returns `MAX_OBSERVATIONS` trials that represent all."""
    names = list(space.objectives)
    points = {
        number: objective_vector(space, dict(zip(names, one.point or (), strict=True)), minimise=True)
        for number, one in observed.items()
    }
    violating = {number for number, one in observed.items() if any(v > 0 for v in one.violations.values())}
    best = set(moasha.best(points, MAX_OBSERVATIONS // 4, violating))
    return representative(sorted(points), best, MAX_OBSERVATIONS)
