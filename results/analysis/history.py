"""Course of a search: rungs, hypervolume over epochs, and trials with equal training."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from results import pareto
from results.analysis.front import reference_point
from results.analysis.timeline import has_times, runs, search_hours
from results.study import StudyResult, TrialResult

MIN_COMPARABLE = 20
"""Number of trials a comparison needs; if fewer reached full fidelity, a lower rung is used."""


@dataclass(frozen=True)
class Rung:
    """A milestone at which trials are compared: the trials that reached it, and those stopped at it."""

    epoch: int
    reached: tuple[int, ...]
    stopped: tuple[int, ...]


def rungs(study: StudyResult) -> list[Rung]:
    """Returns the rungs, lowest first; a failed trial has reached none."""
    stopped = study.select("stopped")
    found = []
    for epoch in sorted({*_rung_epochs(study), *(trial.num_epochs for trial in stopped)}):
        reached = tuple(t.number for t in study.trials if t.num_epochs >= epoch and t.state != "failed")
        found.append(Rung(epoch, reached, tuple(t.number for t in stopped if t.num_epochs == epoch)))
    return found


def total_epochs(study: StudyResult) -> int:
    """Returns the number of epochs trained, summed over trials."""
    return sum(trial.num_epochs for trial in study.trials)


class Progress(NamedTuple):
    """The hypervolume after some epochs of all trials, and after some hours; None if the times are not known."""

    epochs: int
    hours: float | None
    hypervolume: float


def hypervolume_curve(study: StudyResult, reference: Mapping[str, float] | None = None) -> list[Progress]:
    """Returns the progress after each trial, in the order in which the trials ended.

    The hypervolume is bounded by `reference`, by default the study's reference point. Without times, the trials are
    taken in the order of their numbers.
    """
    study = study.unconfirmed()  # the course of the search, which knew no further seeds
    candidates = study.points()
    by_trial = {number: list(points) for number, points in groupby(candidates, key=lambda point: point.trial)}
    worst = [(reference or reference_point(study, candidates))[name] for name in study.objectives]
    corner = pareto.minimised([worst], list(study.objectives.values()))[0]
    front: list[tuple[float, ...]] = []
    volume = 0.0
    curve = [Progress(0, 0.0 if has_times(study) else None, volume)]
    for trial, epochs, hours in _ends(study):
        rows = front + [study.values(point) for point in by_trial.get(trial.number, ())]
        updated = [row for row, is_best in zip(rows, pareto.non_dominated(rows), strict=True) if is_best]
        if updated != front:
            front, volume = updated, pareto.hypervolume(updated, corner)
        curve.append(Progress(epochs, hours, volume))
    return curve


def _ends(study: StudyResult) -> list[tuple[TrialResult, int, float | None]]:
    """Returns the trials in the order of their last epochs, with the epochs of all trials and the hours until then."""
    if not has_times(study):
        spent = accumulate(trial.num_epochs for trial in study.trials)
        return [(trial, epochs, None) for trial, epochs in zip(study.trials, spent, strict=True)]
    hours = search_hours(runs(study))
    moments = sorted(moment for trial in study.trials for moment in trial.times)
    measured = sorted((trial for trial in study.trials if trial.times), key=lambda trial: trial.times[-1])
    return [(trial, bisect_right(moments, trial.times[-1]), hours(trial.times[-1])) for trial in measured]


def comparison_epoch(study: StudyResult, min_trials: int = MIN_COMPARABLE) -> int:
    """Returns the highest rung, or full fidelity, that at least `min_trials` reached; else the lowest rung."""
    levels = [*(rung.epoch for rung in rungs(study)), study.epochs]
    return next((epoch for epoch in reversed(levels) if len(trials_at_epoch(study, epoch)) >= min_trials), levels[0])


def trials_at_epoch(study: StudyResult, epoch: int) -> list[tuple[TrialResult, dict[str, float]]]:
    """Returns (trial, metrics) at an epoch, without failed trials and those with an objective that is not finite."""
    found = []
    for trial in study.trials:
        metrics = next((values for values in trial.epochs if values["epoch"] == epoch), None)
        if metrics is None or trial.state == "failed":
            continue
        if all(math.isfinite(metrics.get(name, math.nan)) for name in study.objectives):
            found.append((trial, metrics))
    return found


def _rung_epochs(study: StudyResult) -> list[int]:
    """Returns the rungs of the space file's scheduler, with the defaults for what it leaves out."""
    scheduler: dict[str, Any] = (study.attrs.get("space") or {}).get("scheduler") or {}
    found: list[int] = []
    epoch, factor = int(scheduler.get("grace_epochs", 1)), int(scheduler.get("reduction_factor", 3))
    while scheduler.get("name", "moasha") != "none" and epoch < study.epochs:
        found.append(epoch)
        epoch *= factor
    return found
