"""What the points of a study are held against: published results, and further seeds.

`attrs["confirmed"]` holds one record for each further training of a point: `trial`, `read_step`, `seed`, the metrics.
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

PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Reference:
    """A result from elsewhere: its name, what is known of it, and where it stands."""

    name: str
    metrics: dict[str, float]
    source: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a metric over the seeds that a point was trained with."""

    mean: float
    deviation: float
    seeds: int


def published(study: StudyResult) -> list[Reference]:
    """Returns what was published on the study's data set; accuracies of the test set, energies by each paper's rule."""
    datasets = {trial.config.get("dataset") for trial in study.trials}
    points = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return [_published(point) for point in points if point["dataset"] in datasets]


def spreads(study: StudyResult) -> dict[tuple[int, int], dict[str, Spread]]:
    """Returns, by (trial, read_step), the spread of each metric over two seeds or more."""
    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    for record in study.attrs.get("confirmed") or ():
        values = found.setdefault((int(record["trial"]), int(record["read_step"])), {})
        for name, value in _metrics(record).items():
            values.setdefault(name, []).append(value)
    return {
        point: {name: Spread(mean(v), stdev(v), len(v)) for name, v in values.items() if len(v) > 1}
        for point, values in found.items()
    }


def _published(point: dict[str, Any]) -> Reference:
    return Reference(f"{point['model']} {point['size']}", _metrics(point), f"{point['paper']} ({point['source']})")


def _metrics(record: dict[str, Any]) -> dict[str, float]:
    values = {name: record.get(name) for name in METRICS}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
