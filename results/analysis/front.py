"""Pareto front of a study: hypervolume, `front.csv`, and the points that figures and tables show."""

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
from results.picks import pick
from results.study import FrontPoint, StudyResult

MetricPair = tuple[str, str]
FIRST_COLUMNS = ("accuracy", "spike_rate", "spikes", "synops", "energy_mj")


def reference_point(study: StudyResult, points: Sequence[FrontPoint] | None = None) -> dict[str, float]:
    """Returns the reference point of the hypervolume: the worst value that counts, for each objective.

    It is fixed for accuracy (chance, 100 / num_classes), loss (that of a uniform guess, ln num_classes), spike_rate (1)
    and images_per_s (0). For other metrics it is the study's constraint, else the worst value among the candidates.
    """
    candidates = study.points() if points is None else points
    return {name: _reference(study, name, candidates) for name in study.objectives}


def hypervolume(study: StudyResult) -> float:
    """Returns the hypervolume of the front with respect to the reference point, in units of the objectives."""
    points = study.points()
    corner = pareto.minimised([list(reference_point(study, points).values())], list(study.objectives.values()))
    return pareto.hypervolume([study.values(point) for point in points], corner[0])


def write_front_csv(study: StudyResult, path: str | os.PathLike[str]) -> None:
    """Writes the front, best first: trial, read-out, metrics, searched keys. Inactive keys stay blank.

    Floats are written with all digits, so they read back equal.
    """
    metrics = list(dict.fromkeys([*FIRST_COLUMNS, *METRICS]))
    keys = [key for key in study.searched if key != "read_step"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "read_step", *metrics, *keys])
    for point in study.front():
        values = [*map(point.metrics.get, metrics), *map(point.params.get, keys)]
        writer.writerow([point.trial, point.read_step, *map(_cell, values)])
    write_atomic(Path(path), text.getvalue())


def plot_axes(study: StudyResult) -> MetricPair:
    """Returns the metrics of the x and y axis: the second and the first objective; x defaults to the spike rate."""
    first, *others = study.objectives
    fallback = "accuracy" if first == "spike_rate" else "spike_rate"
    return (others or [fallback])[0], first


def front_line(study: StudyResult, names: MetricPair) -> list[FrontPoint]:
    """Returns the points that are non-dominated in these two metrics, in the order of the line through them."""
    points = [point for point in study.points() if set(names) <= point.metrics.keys()]
    directions = [study.direction(name) for name in names]
    rows = pareto.minimised([[point.metrics[name] for name in names] for point in points], directions)
    line = [point for point, is_best in zip(points, pareto.non_dominated(rows), strict=True) if is_best]
    return sorted(line, key=lambda point: point.metrics[names[0]], reverse=directions[0] == "maximize")


def highlighted_points(study: StudyResult) -> dict[str, FrontPoint]:
    """Returns the front's points named `knee`, `best` (in the first objective) and `cheapest` (in the second)."""
    front, knee = study.front(), study.knee()
    if knee is None:
        return {}
    cost = plot_axes(study)[0]
    cost = cost if METRICS[cost].direction == "minimize" else "spike_rate"
    on_front = {(point.trial, point.read_step) for point in front}
    found = {"knee": knee, "best": front[0]}
    cheapest = pick(study, f"cheapest:{cost}")[0]
    if (cheapest.trial, cheapest.read_step) in on_front:
        found["cheapest"] = cheapest
    return found


def highlighted_trials(study: StudyResult) -> dict[int, str]:
    """Returns the names of the highlighted points by trial: `{6: "best, cheapest", 13: "knee"}`."""
    names: dict[int, list[str]] = {}
    for name, point in highlighted_points(study).items():
        names.setdefault(point.trial, []).append(name)
    return {number: ", ".join(found) for number, found in names.items()}


def stopped_points(study: StudyResult, names: MetricPair) -> list[FrontPoint]:
    """Returns the last measured point of each stopped trial."""
    return [trial.point() for trial in study.select("stopped") if set(names) <= trial.metrics.keys()]


def excluded_points(study: StudyResult, names: MetricPair) -> list[FrontPoint]:
    """Returns the full-fidelity read-outs that are at chance or violate a constraint."""
    allowed = {(point.trial, point.read_step) for point in study.points()}
    found = [point for trial in study.select("complete") for point in trial.points()]
    return [p for p in found if (p.trial, p.read_step) not in allowed and has_finite(p, names)]


def has_finite(point: FrontPoint, names: Sequence[str]) -> bool:
    """Returns whether the point has finite values of the metrics."""
    return all(math.isfinite(point.metrics.get(name, math.nan)) for name in names)


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
    worst = (min if maximize else max)((point.metrics[name] for point in points), default=0.0)
    return float(worst if limit is None else limit)
