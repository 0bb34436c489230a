"""The race of a confirmation: candidates drop out once another one clearly beats them on every objective."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from results import pareto
from results.analysis.seed_statistics import Key, Sample, front_shares, pooled_deviations
from results.study import StudyResult
from results.study.repeats import MACHINE_FAILURES
from results.study.seeds import ReadOut, read_out_of
from search.messages import Failure
from search.space.objectives import objective_vector
from search.space.space import Space

MAX_CANDIDATES = 20
LEVEL = 0.95
"""Confidence of a loss, on each objective, at which a point drops out."""
Point = ReadOut


@dataclass
class Race:
    """Candidates of a study and the metrics of their fresh seeds.

    `rows` has one row per trial, seed and read-out: `trial`, `seed`, `read_step` and the metrics. All read-outs of a
    retrained trial may be on the front. `failed` maps trials to their failure with a fresh seed.
    """

    space: Space
    points: list[Point]
    rows: list[dict[str, Any]]
    failed: dict[int, Failure] = field(default_factory=dict)

    def rows_of(self, point: Point) -> list[dict[str, Any]]:
        """Returns the rows of one point, one per seed."""
        return [row for row in self.rows if read_out_of(row) == point]

    def samples(self) -> dict[Point, list[list[float]]]:
        """Returns the objectives, to be minimised, of each read-out that has been trained, one row per seed."""
        return self._by_point(lambda row: objective_vector(self.space, row, minimise=True))

    def violations(self) -> dict[Point, list[list[float]]]:
        """Returns by how much each read-out exceeds the constraints and falls below chance, one row per seed."""
        return self._by_point(self._violations)

    def reasons(self, *, of_machine: bool) -> dict[int, str]:
        """Returns the reasons of failures that the machine caused, or of those that the config caused."""
        found = {n: f for n, f in self.failed.items() if (f.failure_class in MACHINE_FAILURES) == of_machine}
        return {number: f"{failure.failure_class}: {failure.reason}" for number, failure in found.items()}

    def active_trials(self) -> list[int]:
        """Returns the trials with a point that has not dropped out."""
        lost = losers(self.samples(), self.violations())
        return sorted({point[0] for point in self.points if point not in lost and point[0] not in self.failed})

    def front_shares(self) -> dict[Point, float]:
        """Returns each read-out's share of resamples on the front."""
        return front_shares(self.samples(), self.violations())

    def _by_point(self, values: Callable[[dict[str, Any]], list[float]]) -> dict[Point, list[list[float]]]:
        found: dict[Point, list[list[float]]] = {}
        for row in self.rows:
            if row["trial"] not in self.failed:
                found.setdefault(read_out_of(row), []).append(values(row))
        return found

    def _violations(self, row: dict[str, Any]) -> list[float]:
        bounds = self.space.settings.constraints
        known = [bound.violation(row[name]) if name in row else 0.0 for name, bound in bounds.items()]
        return [*known, row["chance"] - row["accuracy"] if "chance" in row else 0.0]


def candidates(result: StudyResult) -> list[Point]:
    """Returns the points of the search's own front and of that of an earlier confirmation, each config once.

    Of more than MAX_CANDIDATES points, these are selected by an epsilon-net.
    """
    own = result.unconfirmed()
    front = {point.read_out: point for point in [*own.front(), *result.front()]}
    points = [own.point(*read_out) for read_out in front]
    if len(points) > MAX_CANDIDATES:
        unit = pareto.normalize([result.values(point) for point in points])
        points = [points[i] for i in pareto.epsilon_net(unit, MAX_CANDIDATES)]
    config_keys = {trial.number: json.dumps({**trial.config, "seed": 0}, sort_keys=True) for trial in result.trials}
    first: dict[str, int] = {}
    for number, key in config_keys.items():
        first.setdefault(key, number)
    return sorted({(first[config_keys[point.trial]], *point.read_out[1:]) for point in points})


def losers(samples: Mapping[Key, Sample], violations: Mapping[Key, Sample], level: float = LEVEL) -> set[Key]:
    """Returns the points that exceed a bound, or that another one beats in every objective, by more than the noise.

    A point whose mean exceeds a bound beats none. The noise of a mean, or of a difference of means, is pooled over all
    points: Student's t at `level` times s sqrt(1/n), or s sqrt(1/n + 1/m). Without a second seed of any point there is
    no estimate of the noise, and no point has lost.
    """
    deviations, degrees = pooled_deviations(samples.values())
    if degrees < 1:
        return set()
    from scipy.stats import t as student

    quantile = float(student.ppf(level, degrees))
    margin, excess_margin = quantile * deviations, quantile * pooled_deviations(violations.values())[0]
    means, excess = ({key: np.mean(rows, axis=0) for key, rows in found.items()} for found in (samples, violations))

    def beats(a: Key, b: Key) -> bool:
        scale = math.sqrt(1.0 / len(samples[a]) + 1.0 / len(samples[b]))
        return bool(np.all(excess[a] <= 0)) and bool(np.all(means[a] + margin * scale < means[b]))

    def is_excluded(key: Key) -> bool:
        return bool(np.any(excess[key] > excess_margin / math.sqrt(len(samples[key]))))

    return {key for key in means if is_excluded(key) or any(other != key and beats(other, key) for other in means)}
