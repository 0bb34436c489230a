"""Pareto front of a study: hypervolume, `front.csv`, and the points that figures and tables show."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.files import write_atomic
from results import pareto
from results.metrics import METRICS, REQUESTED_METRICS
from results.picks import pick
from results.study import FrontPoint, StudyResult
from results.study.trial_table import FIRST_METRICS, cell

MetricPair = tuple[str, str]


def reference_point(study: StudyResult, points: Sequence[FrontPoint] | None = None) -> dict[str, float]:
    """Returns the reference point of the hypervolume: the worst value that counts, for each objective.

    It is fixed for accuracy (the chance level that trials reported, else 100 / num_classes), loss (that of a uniform
    guess, ln num_classes), spike_rate (1) and images_per_s (0). For other metrics it is the study's constraint, else
    the worst value among the candidates.
    """
    candidates = study.points() if points is None else points
    return {name: _reference(study, name, candidates) for name in study.objectives}


def hypervolume(study: StudyResult, reference: Mapping[str, float] | None = None) -> float:
    """Returns the hypervolume of the front in units of the objectives, by default to the study's reference point."""
    points = study.points()
    worst = [(reference or reference_point(study, points))[name] for name in study.objectives]
    corner = pareto.minimised([worst], list(study.objectives.values()))
    return pareto.hypervolume([study.values(point) for point in points], corner[0])


def write_front_csv(study: StudyResult, path: str | os.PathLike[str]) -> None:
    """Writes the front, best first: trial, read-out, metrics, searched keys. Inactive keys stay blank.

    In a search with exits, `exit` has the rule and the thresholds. With several seeds, their number, the deviations of
    the objectives and the test accuracy come before the keys.
    Floats are written with all digits, so they read back equal.
    """
    metrics = list(dict.fromkeys([*FIRST_METRICS, *METRICS, *requested_metrics(study)]))
    keys, front = [key for key in study.searched if key != "read_step"], study.front()
    with_seeds = any(point.seeds for point in front)
    exits = ["exit"] if any(trial.exits for trial in study.trials) else []
    seed_columns = list(dict.fromkeys(name for point in front for name in _seed_values(study, point) if with_seeds))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "read_step", *metrics, *exits, *seed_columns, *keys])
    for point in front:
        seeds = map(_seed_values(study, point).get, seed_columns)
        exit_texts = ["" if point.exit is None else str(point.exit) for _ in exits]
        values = [*map(point.metrics.get, metrics), *exit_texts, *seeds, *map(point.params.get, keys)]
        writer.writerow([point.trial, point.read_step, *map(cell, values)])
    write_atomic(Path(path), text.getvalue())


def requested_metrics(study: StudyResult) -> list[str]:
    """Returns the further metrics that the study's trainings were asked for, and that a read-out has."""
    rows = [row for trial in study.trials for row in trial.read_outs]
    return [name for name in REQUESTED_METRICS if any(name in row for row in rows)]


def _seed_values(study: StudyResult, point: FrontPoint) -> dict[str, float]:
    """Returns what several seeds say of a point, by the name of its column."""
    spreads = {name: point.spreads[name] for name in study.objectives if name in point.spreads}
    found = {"seeds": point.seeds or 1, **{f"{name}_std": s.deviation for name, s in spreads.items() if s.seeds > 1}}
    return found | ({"test_accuracy": point.test["accuracy"].mean} if "accuracy" in point.test else {})


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
    on_front = {point.read_out for point in front}
    found = {"knee": knee, "best": front[0]}
    cheapest = pick(study, f"cheapest:{cost}")[0]
    if cheapest.read_out in on_front:
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
    allowed = {point.read_out for point in study.points()}
    found = study.read_outs()
    return [p for p in found if p.read_out not in allowed and has_finite(p, names)]


def unconfirmed_points(study: StudyResult, names: MetricPair) -> list[FrontPoint]:
    """Returns the full-fidelity read-outs of trials that a confirmation did not retrain."""
    return [point for point in study.read_outs(confirmed=False) if has_finite(point, names)]


def has_finite(point: FrontPoint, names: Sequence[str]) -> bool:
    """Returns whether the point has finite values of the metrics."""
    return all(math.isfinite(point.metrics.get(name, math.nan)) for name in names)


def _reference(study: StudyResult, name: str, points: Sequence[FrontPoint]) -> float:
    classes = next((int(trial.config["num_classes"]) for trial in study.trials if "num_classes" in trial.config), 0)
    natural = {"spike_rate": 1.0, "images_per_s": 0.0}
    natural |= {"accuracy": 100.0 / classes, "loss": math.log(classes)} if classes else {"accuracy": 0.0}
    reported = (row["chance"] for trial in study.trials for row in trial.read_outs if "chance" in row)
    natural["accuracy"] = next(reported, natural["accuracy"])
    maximize = study.objectives[name] == "maximize"
    if name in natural and maximize == (METRICS[name].direction == "maximize"):
        return natural[name]
    limit = study.constraints.get(name, {}).get("min" if maximize else "max")
    worst = (min if maximize else max)((point.metrics[name] for point in points), default=0.0)
    return float(worst if limit is None else limit)
