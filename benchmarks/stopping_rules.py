"""Stopping rules of the rivals: which trials continue at a rung, or after an epoch, as their libraries decide it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from optuna._hypervolume.hssp import _solve_hssp_on_unique_loss_vals

from results import pareto
from search.algorithm import moasha
from search.simulation.simulator import uniform
from search.space import objectives
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

ETA = 3
ACCURACY = {"accuracy": "maximize"}


class Rule(Protocol):
    """Stopping rule; `rung` holds the reports at an epoch so far, the trial itself last."""

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        """Returns whether the trial continues."""


class RayAsha:
    """Ray's AsyncHyperBandScheduler with one bracket: stops trials below a percentile of the earlier ones.

    It compares accuracy, or the first objective in a table without accuracy.
    """

    def __init__(self, objectives: Mapping[str, str] = ACCURACY) -> None:
        self.metric = "accuracy" if "accuracy" in objectives else next(iter(objectives))
        self.sign = -1.0 if objectives[self.metric] == "minimize" else 1.0

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        values = {other: self.sign * report.metrics[self.metric] for other, report in rung.items()}
        before = [value for other, value in values.items() if other != number]
        cutoff = np.nanpercentile(before, (1 - 1 / ETA) * 100) if before else -np.inf
        return bool(values[number] >= cutoff)


class MultiObjective:
    """MO-ASHA: the best third by fronts and epsilon-net continues."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def points(self, rung: Mapping[int, EpochMetrics]) -> dict[int, list[float]]:
        return {
            number: objectives.objective_vector(self.space, report.metrics, minimise=True)
            for number, report in rung.items()
        }

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        return moasha.survives(self.points(rung), number, ETA)


class Scalarised(MultiObjective):
    """ASHA on an augmented Chebyshev scalarization of the normalized objectives, with random weights per trial."""

    def __init__(self, space: Space, run: int) -> None:
        super().__init__(space)
        self.run = run

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        if len(rung) < ETA:
            return True
        exponential = [-math.log(uniform(self.run, "weight", number, key)) for key in self.space.objectives]
        weighted = pareto.normalize(list(self.points(rung).values())) * (np.array(exponential) / sum(exponential))
        scores = dict(zip(rung, weighted.max(axis=1) + 0.05 * weighted.sum(axis=1), strict=True))
        better = sum((score, other) < (scores[number], number) for other, score in scores.items())
        return better < math.ceil(len(rung) / ETA)


class SyneTune(MultiObjective):
    """MO-ASHA as in Syne Tune 0.16.0, where an order of positions, best first, is used as their priorities.

    Within a front the ranks of the epsilon-net are used as an order, and distances are not normalized.
    """

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        if len(rung) < 2:
            return True
        points = list(self.points(rung).values())  # the trial is the last
        front = pareto.non_dominated_sort(points)[-1]
        net = pareto.epsilon_net([points[position] for position in front], len(front))
        priority = front[net.index(len(front) - 1)]  # the last entry of the order, which ends with the worst front
        return bool(priority <= len(points) / ETA)


class MultiMetricPruner:
    """OptunaHub's `pruners/multi_metric_pruner` in its joint mode, over Optuna's `MedianPruner(n_startup_trials=3)`.

    Written from its description and behaviour, since the package is loaded from GitHub when it is used. At each epoch,
    the reports of all trials become Pareto ranks, 0 for the front. A trial on the front counts as -1; otherwise the
    trials of its rank are ordered by a greedy choice for the largest hypervolume and get bonuses from 0.5 to 0.1. A
    trial is stopped if its best rank over the epochs so far is worse than the median of the trials that have ended, at
    its last epoch.
    """

    num_startup_trials = 3

    def __init__(self) -> None:
        self.reports: defaultdict[int, dict[int, list[float]]] = defaultdict(dict)
        self.ended: set[int] = set()

    def report(self, number: int, epoch: int, point: list[float]) -> None:
        """Records the objectives of a trial after an epoch, to minimize."""
        self.reports[epoch][number] = point

    def should_prune(self, number: int, epoch: int) -> bool:
        """Returns whether a trial is stopped after its report of this epoch."""
        own, others = self.ranks(number, epoch)
        ended = [others[other] for other in self.ended if other in others]
        has_reports = sum(other in self.reports[1] for other in self.ended)
        if has_reports < self.num_startup_trials or not ended:
            return False
        median = float(np.median(ended))
        earlier = (self.ranks(number, past)[0] for past in range(epoch - 1, 0, -1))
        return own > median and all(rank > median for rank in earlier)

    def ranks(self, number: int, epoch: int) -> tuple[float, dict[int, float]]:
        """Returns the rank of a trial after an epoch, and those of the other trials from its point of view."""
        numbers = [*sorted(self.reports[epoch].keys() - {number}), number]
        rows = np.array([self.reports[epoch][other] for other in numbers])
        ranks = np.empty(len(rows))
        for rank, front in enumerate(pareto.non_dominated_sort(rows)):
            ranks[front] = rank
        if ranks[-1] == 0.0:
            ranks[-1] = -1.0
        else:
            tied = np.flatnonzero(ranks == ranks[-1])
            ordered = tied[_by_hypervolume(rows[tied])]
            ranks[ordered] -= np.linspace(0.5, 0.1, len(tied)) if len(tied) > 1 else 0.0
        found = dict(zip(numbers, ranks.tolist(), strict=True))
        return found.pop(number), found


def _by_hypervolume(rows: pareto.Floats) -> list[int]:
    """Returns the positions of non-dominated rows in the order of a greedy choice for the largest hypervolume.

    The reference is a tenth beyond the worst value of each objective; equal rows stay together.
    """
    worst = rows.max(axis=0)
    distinct, group = np.unique(rows, axis=0, return_inverse=True)
    positions = np.arange(len(distinct))
    chosen = positions[:0]
    if len(distinct) > 1:  # the selection has no order once it holds all
        reference = np.maximum(1.1 * worst, 0.9 * worst)
        chosen = _solve_hssp_on_unique_loss_vals(distinct, positions, len(distinct) - 1, reference)
    order = [*chosen.tolist(), *np.setdiff1d(positions, chosen).tolist()]
    return [position for row in order for position in np.flatnonzero(group.reshape(-1) == row).tolist()]
