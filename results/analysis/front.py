"""The front of a study as numbers: its hypervolume and `front.csv`."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from config.files import write_atomic
from results import pareto
from results.metrics import METRICS
from results.study import FrontPoint, StudyResult

__all__ = ["FrontPoint", "csv_columns", "hypervolume", "reference_point", "write_front_csv"]

FIRST_COLUMNS = ("accuracy", "spike_rate", "spikes", "synops", "energy_mj")


def reference_point(study: StudyResult, points: Sequence[FrontPoint] | None = None) -> dict[str, float]:
    """Returns, for each objective, the worst value from which the hypervolume counts.

    Fixed where a natural one exists: accuracy from chance (100 / num_classes), loss from that of a uniform guess
    (ln num_classes), spike_rate from 1.0, images_per_s from 0. Otherwise the study's own constraint, and without one
    the worst value of any candidate so far.
    """
    candidates = study.points() if points is None else points
    return {name: _reference(study, name, candidates) for name in study.objectives}


def hypervolume(study: StudyResult) -> float:
    """Returns the volume that the front dominates from the reference point, in the objectives' own units."""
    points = study.points()
    corner = pareto.minimised([list(reference_point(study, points).values())], list(study.objectives.values()))
    return pareto.hypervolume([study.values(point) for point in points], corner[0])


def csv_columns(study: StudyResult) -> list[str]:
    """Returns the columns of `front.csv`: the point, the metrics, then the searched keys."""
    others = [name for name in METRICS if name not in FIRST_COLUMNS]
    return ["trial", "read_step", *FIRST_COLUMNS, *others, *_own(study)]


def _own(study: StudyResult) -> list[str]:
    """Returns the searched keys that have a column of their own."""
    return [key for key in study.searched if key != "read_step"]


def write_front_csv(study: StudyResult, path: str | os.PathLike[str]) -> None:
    """Writes the front, best first objective first; floats read back equal, inactive keys stay blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_columns(study))
    for point in study.front():
        metrics = [point.metrics.get(name) for name in csv_columns(study)[2 : 2 + len(METRICS)]]
        searched = [point.params.get(key) for key in _own(study)]
        writer.writerow([point.trial, point.read_step, *map(_cell, [*metrics, *searched])])
    write_atomic(Path(path), text.getvalue())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)


def _reference(study: StudyResult, name: str, points: Sequence[FrontPoint]) -> float:
    classes = next((int(trial.config["num_classes"]) for trial in study.trials if "num_classes" in trial.config), 0)
    natural = {"spike_rate": 1.0, "images_per_s": 0.0}
    natural |= {"accuracy": 100.0 / classes, "loss": math.log(classes)} if classes else {"accuracy": 0.0}
    maximize = study.objectives[name] == "maximize"
    if name in natural and maximize == (METRICS[name].direction == "maximize"):
        return natural[name]
    limit = study.constraints.get(name, {}).get("min" if maximize else "max")
    seen = [point.metrics[name] for point in points]
    worst = (min if maximize else max)(seen, default=0.0)
    return float(worst if limit is None else limit)
