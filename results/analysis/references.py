"""References for the points of a study: published results, and trainings with further seeds.

`attrs["confirmed"]` holds one entry for each further training of a point: `trial`, `read_step`, `seed` and the metrics.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from results.metrics import METRICS
from results.study import StudyResult

PUBLISHED = Path(__file__).parents[2] / "models" / "published" / "results.json"


@dataclass(frozen=True)
class Reference:
    """A published result: its model, its known metrics and its source."""

    name: str
    metrics: dict[str, float]
    source: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a metric over the seeds of a point."""

    mean: float
    deviation: float
    seeds: int


def published(study: StudyResult) -> list[Reference]:
    """Returns published results on the study's data set: test accuracies, and energies by each paper's own rule."""
    datasets = {trial.config.get("dataset") for trial in study.trials}
    points = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return [
        Reference(f"{point['model']} {point['size']}", _metrics(point), f"{point['paper']} ({point['source']})")
        for point in points
        if point["dataset"] in datasets and point["accuracy"] is not None
    ]


def spreads(study: StudyResult) -> dict[tuple[int, int], dict[str, Spread]]:
    """Returns, by (trial, read_step), the spread of each metric with at least two seeds."""
    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    for training in study.attrs.get("confirmed") or ():
        values = found.setdefault((int(training["trial"]), int(training["read_step"])), {})
        for name, value in _metrics(training).items():
            values.setdefault(name, []).append(value)
    return {
        point: {name: Spread(mean(v), stdev(v), len(v)) for name, v in values.items() if len(v) > 1}
        for point, values in found.items()
    }


def _metrics(entry: dict[str, Any]) -> dict[str, float]:
    values = {name: entry.get(name) for name in METRICS}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
