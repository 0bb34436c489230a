"""Course of a search: rungs, hypervolume over epochs, and trials with equal training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from results import pareto
from results.analysis.front import reference_point
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


def hypervolume_curve(study: StudyResult) -> list[tuple[int, float]]:
    """Returns (epochs trained, hypervolume) after each trial, in the order of their numbers."""
    candidates = study.points()
    by_trial = {number: list(points) for number, points in groupby(candidates, key=lambda point: point.trial)}
    worst = list(reference_point(study, candidates).values())
    corner = pareto.minimised([worst], list(study.objectives.values()))[0]
    front: list[tuple[float, ...]] = []
    epochs, volume, curve = 0, 0.0, [(0, 0.0)]
    for trial in study.trials:
        epochs += trial.num_epochs
        rows = front + [study.values(point) for point in by_trial.get(trial.number, ())]
        updated = [row for row, is_best in zip(rows, pareto.non_dominated(rows), strict=True) if is_best]
        if updated != front:
            front, volume = updated, pareto.hypervolume(updated, corner)
        curve.append((epochs, volume))
    return curve


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
