"""Published results on the data set of a study."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.datasets import DATASETS
from results.metrics import METRICS
from results.study import StudyResult

PUBLISHED = Path(__file__).parents[2] / "models" / "published" / "results.json"


@dataclass(frozen=True)
class Reference:
    """A published result: its model, its known metrics and its source."""

    name: str
    metrics: dict[str, float]
    source: str


def published(study: StudyResult) -> list[Reference]:
    """Returns published results on the study's data set: test accuracies, and energies by each paper's own rule.

    There are none for a part of its training images, or for images below its size.
    """
    datasets = {trial.config.get("dataset") for trial in study.trials if _is_whole(trial.config)}
    points = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return [
        Reference(f"{point['model']} {point['size']}", _metrics(point), f"{point['paper']} ({point['source']})")
        for point in points
        if point["dataset"] in datasets and point["accuracy"] is not None
    ]


def _is_whole(config: Mapping[str, Any]) -> bool:
    own = DATASETS.get(config.get("dataset", ""), {}).get("img_size", 0)
    return config.get("train_images") is None and (config.get("img_size") or own) >= own


def _metrics(entry: dict[str, Any]) -> dict[str, float]:
    values = {name: entry.get(name) for name in METRICS}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
