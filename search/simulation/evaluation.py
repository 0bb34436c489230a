"""What a simulated search found, judged by what its configs are truly worth: the mean over the recorded seeds.

A search sees one seed of each config, so a lucky one earns nothing here. Only configs trained to full fidelity count,
with all their read-outs, and those alone whose every seed was trained in full and beat chance. The hypervolume is that
over accuracy and the logarithm of costs, from a reference point that is fixed by the table before any search.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from results import pareto
from results.pareto import Floats
from search.simulation.simulator import CurveSource, Trace
from search.space.random_sampling import example
from search.space.space import Space

LINEAR = frozenset({"accuracy", "loss"})
"""Objectives whose differences count; of all others the ratios do: half the spikes are worth the same anywhere."""

Curve = Sequence[tuple[float, float]]
"""Steps of (spent epochs, hypervolume), rising in both."""


class CurveTable(CurveSource, Protocol):
    """A table with its space: every config of it, numbered."""

    @property
    def space(self) -> Space: ...

    @property
    def configs(self) -> Sequence[Mapping[str, object]]: ...


class Evaluator:
    """The true points of a table's configs, and the volumes that they dominate as shares of the true front's."""

    def __init__(
        self, table: CurveTable, objectives: Mapping[str, str] | None = None, reference: Sequence[float] | None = None
    ) -> None:
        """Judges by the table's own objectives, or others; a `reference` spares looking at every config for one."""
        self.table = table
        self.objectives = dict(objectives or table.space.objectives)
        self.epochs = table.epochs
        self._known: dict[int, Floats] = {}
        self._given = reference

    @cached_property
    def points(self) -> list[Floats]:
        """Returns the true points of each config, smaller being better; none where it does not succeed."""
        return [self.true_points(index) for index in range(len(self.table.configs))]

    @cached_property
    def reference(self) -> Floats:
        """Returns the corner from which volumes count: chance, and the largest cost of any config."""
        if self._given is not None:
            return np.array(self._given, dtype=np.float64)
        known = [points for points in self.points if len(points)]
        worst: Floats = np.concatenate(known).max(axis=0) if known else np.zeros(len(self.objectives))
        for column, (key, goal) in enumerate(self.objectives.items()):
            if key == "accuracy":
                worst[column] = scaled(key, 100.0 / example(self.table.space).num_classes, goal)
        return worst

    @cached_property
    def best(self) -> float:
        """Returns the volume of the whole table."""
        return self.volume(range(len(self.points)))

    @cached_property
    def front(self) -> frozenset[int]:
        """Returns the configs with a point that no other dominates."""
        owners = [index for index, points in enumerate(self.points) for _ in points]
        if not owners:
            return frozenset()
        on_front = pareto.non_dominated(np.concatenate([points for points in self.points if len(points)]))
        return frozenset(owner for owner, kept in zip(owners, on_front, strict=True) if kept)

    def share(self, configs: Iterable[int]) -> float:
        """Returns the hypervolume of these configs over that of the whole table."""
        return self.volume(configs) / self.best if self.best else 0.0

    def curve(self, trace: Trace) -> list[tuple[float, float]]:
        """Returns the hypervolume after each config that was trained in full."""
        steps = [(0.0, 0.0)]
        found: set[int] = set()
        for event in trace.select("complete"):
            if event.config not in found and len(self.points[event.config]):
                found.add(event.config)
                value = self.share(found)
                if value > steps[-1][1]:
                    steps.append((event.spent, value))
        return steps

    def missed(self, trace: Trace) -> dict[int, str]:
        """Returns, for each member of the true front that the search did not train in full, how far it came."""
        complete = {event.config for event in trace.select("complete")}
        last = {event.config: event for event in trace.events}
        return {
            config: f"{last[config].state} {last[config].epoch}" if config in last else "not started"
            for config in sorted(self.front - complete)
        }

    def false_stops(self, trace: Trace) -> tuple[int, int]:
        """Returns how many members of the true front were stopped, or paused and left so, and how many were started.

        A member that was started again and trained in full was not stopped.
        """
        complete = {event.config for event in trace.select("complete")}
        ended = {event.config for event in trace.last().values() if event.state in ("stop", "pause")}
        started = {event.config for event in trace.select("start")} & self.front
        return len((ended - complete) & started), len(started)

    def ranked(self) -> list[int]:
        """Returns the configs that have points, best first: by front, then by what each adds to its volume."""
        left = [index for index, points in enumerate(self.points) if len(points)]
        found: list[int] = []
        while left:
            points = np.concatenate([self.points[index] for index in left])
            owners = [index for index in left for _ in self.points[index]]
            kept = {o for o, is_kept in zip(owners, pareto.non_dominated(points), strict=True) if is_kept}
            whole = self.volume(kept)
            found += sorted(kept, key=lambda index: (self.volume(kept - {index}) - whole, index))
            left = [index for index in left if index not in kept]
        return found

    def true_points(self, index: int) -> Floats:
        """Returns the points of one config."""
        if index not in self._known:
            self._known[index] = self._true_points(self.table, index)
        return self._known[index]

    def _true_points(self, table: CurveSource, index: int) -> Floats:
        curves = [table.curve(index, position) for position in range(len(table.seeds))]
        nothing = np.empty((0, len(self.objectives)))
        if any(curve.failure is not None or len(curve.epochs) < table.epochs for curve in curves):
            return nothing
        ends = [curve.epochs[-1] for curve in curves]
        rows = []
        for read_outs in zip(*(end.read_outs for end in ends), strict=True):
            mean = {
                key: float(
                    np.mean([{**end.metrics, **read_out}[key] for end, read_out in zip(ends, read_outs, strict=True)])
                )
                for key in {*self.objectives, "accuracy", "chance"}
            }
            if mean["accuracy"] > mean["chance"]:
                rows.append([scaled(key, mean[key], goal) for key, goal in self.objectives.items()])
        return np.array(rows) if rows else nothing

    def volume(self, configs: Iterable[int]) -> float:
        """Returns the hypervolume of these configs, in units of the objectives as they are scaled."""
        chosen = [points for points in map(self.true_points, configs) if len(points)]
        return pareto.hypervolume(np.concatenate(chosen), self.reference) if chosen else 0.0


def scaled(metric: str, value: float, goal: str) -> float:
    """Returns a metric as hypervolumes count it: smaller is better, costs by their logarithm."""
    shown = value if metric in LINEAR else math.log10(max(value, 1e-12))
    return -shown if goal == "maximize" else shown


def value_at(curve: Curve, spent: float) -> float:
    """Returns the hypervolume when `spent` epochs were spent."""
    return curve[bisect_right(curve, (spent, math.inf)) - 1][1]


def first_at(curve: Curve, target: float) -> float:
    """Returns the epochs after which the hypervolume is `target`, infinite where it never is."""
    return next((spent for spent, value in curve if value >= target - 1e-12), math.inf)
