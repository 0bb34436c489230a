"""How a search went: its rungs, what it had reached after how many epochs, and which trials can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from results import pareto
from results.analysis.front import reference_point
from results.study import FrontPoint, StudyResult, TrialResult

ENOUGH = 20
"""Trials that are needed to say what matters; where fewer were trained to the end, a lower rung is looked at."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials were compared: who got there, and who was stopped."""

    epoch: int
    reached: tuple[int, ...]
    stopped: tuple[int, ...]


def rungs(study: StudyResult) -> list[Rung]:
    """Returns the rungs, lowest first; those that failed before or at a rung did not get there."""
    stopped = study.select("stopped")
    found = []
    for epoch in sorted({*_levels(study), *(trial.num_epochs for trial in stopped)}):
        reached = tuple(t.number for t in study.trials if t.num_epochs >= epoch and t.state != "failed")
        found.append(Rung(epoch, reached, tuple(t.number for t in stopped if t.num_epochs == epoch)))
    return found


def epochs_spent(study: StudyResult) -> int:
    """Returns the epochs that all trials together were trained."""
    return sum(trial.num_epochs for trial in study.trials)


def hypervolume_curve(study: StudyResult) -> list[tuple[int, float]]:
    """Returns (epochs spent, hypervolume) after each full training, trials taken in the order of their numbers."""
    candidates = study.points()
    by_trial: dict[int, list[FrontPoint]] = {}
    for point in candidates:
        by_trial.setdefault(point.trial, []).append(point)
    worst = list(reference_point(study, candidates).values())
    corner = pareto.minimised([worst], list(study.objectives.values()))[0]
    front: list[tuple[float, ...]] = []
    spent, volume, curve = 0, 0.0, [(0, 0.0)]
    for trial in study.trials:
        spent += trial.num_epochs
        rows = front + [study.values(point) for point in by_trial.get(trial.number, ())]
        kept = [row for row, keep in zip(rows, pareto.non_dominated(rows), strict=True) if keep] if rows else []
        if kept != front:
            front, volume = kept, pareto.hypervolume(kept, corner)
        curve.append((spent, volume))
    return curve


def fidelity(study: StudyResult, enough: int = ENOUGH) -> int:
    """Returns the highest epoch, a rung or full training, that enough trials reached; the lowest where none has."""
    levels = [*(rung.epoch for rung in rungs(study)), study.epochs]
    return next((epoch for epoch in reversed(levels) if len(at_epoch(study, epoch)) >= enough), levels[0])


def at_epoch(study: StudyResult, epoch: int) -> list[tuple[TrialResult, dict[str, float]]]:
    """Returns the trials that did not fail and reached an epoch, with their metrics then, every objective finite."""
    found = []
    for trial in study.trials:
        metrics = next((values for values in trial.epochs if values["epoch"] == epoch), None)
        if metrics is None or trial.state == "failed":
            continue
        if all(math.isfinite(metrics.get(name, math.nan)) for name in study.objectives):
            found.append((trial, metrics))
    return found


def _levels(study: StudyResult) -> list[int]:
    """The rungs that the space file asks for, with its defaults."""
    scheduler: dict[str, Any] = {"name": "moasha", "grace_epochs": 1, "reduction_factor": 3}
    scheduler |= (study.attrs.get("space") or {}).get("scheduler") or {}
    levels: list[int] = []
    level = int(scheduler["grace_epochs"])
    while scheduler["name"] != "none" and level < study.epochs:
        levels.append(level)
        level *= int(scheduler["reduction_factor"])
    return levels
