"""The race of a confirmation: candidates drop out once another one clearly beats them on every objective."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from results import pareto
from results.study import StudyResult
from search.confirmation.statistics import Key, Sample, front_shares, pooled_deviations
from search.space.objectives import objective_vector
from search.space.space import Space

MAX_CANDIDATES = 20
LEVEL = 0.95
"""Confidence of a loss, on each objective, at which a point drops out."""
FRONT_SHARE = 0.5
"""Share of resamples from which on a point belongs to the confirmed front."""

Point = tuple[int, int]
"""A trial and its read-out step."""


@dataclass
class Race:
    """Candidates of a study and the metrics of their fresh seeds.

    `rows` has one row per trial, seed and read-out: `trial`, `seed`, `read_step` and the metrics. `failed` maps trials
    that failed with a fresh seed to the reason.
    """

    space: Space
    points: list[Point]
    rows: list[dict[str, Any]]
    failed: dict[int, str] = field(default_factory=dict)

    def rows_of(self, point: Point) -> list[dict[str, Any]]:
        """Returns the rows of one point, one per seed."""
        return [row for row in self.rows if (row["trial"], row["read_step"]) == point]

    def samples(self) -> dict[Point, list[list[float]]]:
        """Returns the objectives, to be minimised, of each point that has been trained, one row per seed."""
        found: dict[Point, list[list[float]]] = {}
        for row in self.rows:
            point = (row["trial"], row["read_step"])
            if point in self.points and row["trial"] not in self.failed:
                found.setdefault(point, []).append(objective_vector(self.space, row, minimise=True))
        return found

    def active_trials(self) -> list[int]:
        """Returns the trials with a point that has not dropped out."""
        lost = losers(self.samples())
        return sorted({point[0] for point in self.points if point not in lost and point[0] not in self.failed})

    def front_shares(self) -> dict[Point, float]:
        """Returns each point's share of resamples on the front."""
        return front_shares(self.samples())

    def front_trials(self) -> set[int]:
        """Returns the trials of the confirmed front."""
        return {trial for (trial, _), share in self.front_shares().items() if share >= FRONT_SHARE}


def candidates(result: StudyResult) -> list[Point]:
    """Returns the points of the front, at most MAX_CANDIDATES by an epsilon-net, each config once."""
    front = result.front()
    if len(front) > MAX_CANDIDATES:
        unit = pareto.normalize([result.values(point) for point in front])
        front = [front[i] for i in pareto.epsilon_net(unit, MAX_CANDIDATES)]
    config_keys = {trial.number: json.dumps({**trial.config, "seed": 0}, sort_keys=True) for trial in result.trials}
    first: dict[str, int] = {}
    for number, key in config_keys.items():
        first.setdefault(key, number)
    return sorted({(first[config_keys[point.trial]], point.read_step) for point in front})


def losers(samples: Mapping[Key, Sample], level: float = LEVEL) -> set[Key]:
    """Returns the points that another one beats in every objective by more than the noise of the difference.

    The noise is pooled over all points: Student's t at `level` times s sqrt(1/n + 1/m). Without a second seed of any
    point there is no estimate of the noise, and no point has lost.
    """
    deviations, degrees = pooled_deviations(samples.values())
    if degrees < 1:
        return set()
    from scipy.stats import t as student

    margin = float(student.ppf(level, degrees)) * deviations
    means = {key: np.mean(sample, axis=0) for key, sample in samples.items()}

    def beats(a: Key, b: Key) -> bool:
        scale = math.sqrt(1.0 / len(samples[a]) + 1.0 / len(samples[b]))
        return bool(np.all(means[a] + margin * scale < means[b]))

    return {key for key in means if any(other != key and beats(other, key) for other in means)}
