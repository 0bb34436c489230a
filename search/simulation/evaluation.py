"""Evaluation of simulated searches by the true values of their configs: the means over the recorded seeds.

A search observes one seed of each config, so a lucky seed gains nothing. A config counts if the search trained
it to full fidelity, with all its read-outs, and if each of its seeds was trained in full and beat chance. The
hypervolume covers accuracy and the logarithm of costs; its reference point is fixed by the table before any search.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from results import pareto
from results.pareto import Floats, Points
from search.simulation.simulator import CurveTable, Trace
from search.simulation.study_curves import StudyCurves

LINEAR = frozenset({"accuracy", "loss"})
"""Objectives that count by differences; all others count by ratios, as half the spikes are worth the same anywhere."""

HypervolumeCurve = Sequence[tuple[float, float]]
"""Steps of (spent epochs, hypervolume), both increasing."""


@runtime_checkable
class WithTruth(Protocol):
    """A table that knows the true values of its configs and from where the hypervolume counts."""

    @property
    def corner(self) -> Mapping[str, float]:
        """Returns the values from which the hypervolume counts, as far as they are stated."""

    def true_values(self) -> Floats:
        """Returns the objectives `[configs, M]` after a full training, NaN for a config without success."""


class Evaluator:
    """True points of a table's configs, minimized, and hypervolumes as shares of the true front's."""

    def __init__(self, table: CurveTable) -> None:
        self.table, self.epochs = table, table.epochs
        self.objectives = table.space.objectives

    @cached_property
    def points(self) -> list[Floats]:
        """Returns the true points `[read-outs, M]` of each config, 0 points where it does not succeed."""
        if isinstance(self.table, WithTruth):
            rows = self.table.true_values()
            points = self._points(rows)[:, None]  # in one step, as there may be a million
            return [point[:0] if fails else point for point, fails in zip(points, np.isnan(rows[:, 0]), strict=True)]
        return [self.true_points(index) for index in range(len(self.table.configs))]

    @cached_property
    def reference(self) -> Floats:
        """Returns the reference point of the hypervolume: chance, and the largest cost of any config.

        A table from elsewhere may state other values.
        """
        every = np.concatenate(self.points)
        worst: Floats = every.max(axis=0) if len(every) else np.zeros(len(self.objectives))
        for column, key in enumerate(self.objectives):
            if isinstance(self.table, WithTruth):
                corner = self.table.corner.get(key)
            else:
                corner = self._chance() if key == "accuracy" else None
            if corner is not None:
                worst[column] = float(self._minimized(key, np.array(corner)))
        return worst

    def _chance(self) -> float:
        """Returns the accuracy of a guess: what a study's trials reported; recorded tables have equal classes."""
        if isinstance(self.table, StudyCurves):
            return self.table.chance
        return 100.0 / self.table.space.example.num_classes

    @cached_property
    def best(self) -> float:
        """Returns the hypervolume of the whole table."""
        return self.volume(range(len(self.points)))

    @cached_property
    def front(self) -> frozenset[int]:
        """Returns the configs of the true Pareto front: those with a point that no other dominates."""
        return frozenset(self.non_dominated(range(len(self.points))))

    def share(self, configs: Iterable[int]) -> float:
        """Returns the hypervolume of these configs over that of the whole table."""
        return self.volume(configs) / self.best if self.best else 0.0

    def curve(self, trace: Trace) -> list[tuple[float, float]]:
        """Returns the share of the hypervolume after each config that was trained in full."""
        steps = [(0.0, 0.0)]
        found: set[int] = set()
        for event in trace.select("complete"):
            if event.config not in found and len(self.points[event.config]):
                found.add(event.config)
                value = self.share(found)
                if value > steps[-1][1]:
                    steps.append((event.spent, value))
        return steps

    def false_stops(self, trace: Trace) -> tuple[int, int]:
        """Returns how many members of the true front were stopped, or paused to the end, and how many were started.

        A member that was started again later and trained in full does not count as stopped.
        """
        complete = {event.config for event in trace.select("complete")}
        ended = {event.config for event in trace.last().values() if event.state in ("stop", "pause")}
        started = {event.config for event in trace.select("start")} & self.front
        return len((ended - complete) & started), len(started)

    def volume(self, configs: Iterable[int]) -> float:
        """Returns the hypervolume of these configs, in units of the minimized objectives."""
        points = [self.points[index] for index in configs]
        return pareto.hypervolume(np.concatenate(points), self.reference) if any(map(len, points)) else 0.0

    def non_dominated(self, configs: Iterable[int]) -> set[int]:
        """Returns those of these configs that have a point which no point of the others dominates."""
        owners = [index for index in configs for _ in self.points[index]]
        if not owners:
            return set()
        is_on_front = pareto.non_dominated(np.concatenate([self.points[index] for index in dict.fromkeys(owners)]))
        return {owner for owner, is_member in zip(owners, is_on_front, strict=True) if is_member}

    def true_points(self, index: int) -> Floats:
        """Returns the true points `[read-outs, M]` of one config, which `points` caches for all."""
        curves = [self.table.curve(index, position) for position in range(len(self.table.seeds))]
        needed, rows = {*self.objectives, "accuracy", "chance"}, []
        if all(curve.failure is None and len(curve.epochs) >= self.table.epochs for curve in curves):
            ends = [curve.epochs[-1] for curve in curves]
            for read_outs in zip(*(end.read_outs for end in ends), strict=True):
                seeds = [{**end.metrics, **read_out} for end, read_out in zip(ends, read_outs, strict=True)]
                mean = {key: float(np.mean([one[key] for one in seeds])) for key in needed}
                if mean["accuracy"] > mean["chance"]:
                    rows.append([mean[key] for key in self.objectives])
        return self._points(rows)

    def _points(self, rows: Points) -> Floats:
        """Returns rows of objectives as minimized points `[N, M]`."""
        columns = np.asarray(rows, dtype=np.float64).reshape(-1, len(self.objectives)).T
        scaled = [self._minimized(key, column) for key, column in zip(self.objectives, columns, strict=True)]
        return np.stack(scaled, axis=1)

    def _minimized(self, key: str, values: Floats) -> Floats:
        direction = self.objectives[key]
        if key in self.table.space.linear_metrics:
            return -values if direction == "maximize" else values
        return minimized(key, values, direction)


def minimized(metric: str, values: Floats, direction: str) -> Floats:
    """Returns values of a metric on the scale of hypervolumes: smaller is better, costs by their logarithm."""
    scaled = values if metric in LINEAR else np.log10(np.maximum(values, 1e-12))
    return -scaled if direction == "maximize" else scaled


def value_at(curve: HypervolumeCurve, spent: float) -> float:
    """Returns the hypervolume when `spent` epochs were spent."""
    return curve[bisect_right(curve, (spent, math.inf)) - 1][1]
