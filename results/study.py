"""What is left of a search: its trials, the points they measured and the front among those."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from results import pareto
from results.metrics import SHOWN, ResultsError

State = Literal["complete", "stopped", "failed", "running", "paused"]


@dataclass(frozen=True)
class FrontPoint:
    """One measured network: a trial, read after `read_step` of its steps."""

    trial: int
    read_step: int
    metrics: dict[str, float]
    params: dict[str, Any]

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.trial:04d}"


@dataclass(frozen=True)
class TrialResult:
    """One trial: its train file and what was measured, epoch by epoch.

    `epochs` holds each epoch's metrics and its number under `epoch`; `read_outs` are those of the last epoch, with
    `read_step`; `params` are the searched values that this trial's choices leave active. `note` says why
    a trial was stopped where no rung decided it. `run_id` is its run in MLflow. `started` and `times`, when it started
    and each epoch ended in seconds since 1970, are known in a folder only.
    """

    number: int
    state: State
    config: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[dict[str, float], ...] = ()
    read_outs: tuple[dict[str, float], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    failure_class: str | None = None
    failure_reason: str | None = None
    note: str | None = None
    run_id: str | None = field(default=None, compare=False)
    started: float | None = field(default=None, compare=False)
    times: tuple[float, ...] = field(default=(), compare=False)

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.number:04d}"

    @property
    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the last epoch; empty before the first."""
        return {name: value for name, value in self.epochs[-1].items() if name != "epoch"} if self.epochs else {}

    @property
    def num_epochs(self) -> int:
        """Returns the number of the last epoch that was measured."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def read_step(self) -> int:
        """Returns the steps after which the trial itself reads its output."""
        return int(self.config.get("read_step") or self.config.get("step") or 1)

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Returns (epoch, value) of one metric."""
        return [(int(epoch["epoch"]), epoch[metric]) for epoch in self.epochs if metric in epoch]

    def points(self) -> list[FrontPoint]:
        """Returns a point for each read-out of the last epoch; what a read-out lacks is the trial's value."""
        return list(self._points)

    def point(self, read_step: int | None = None) -> FrontPoint:
        """Returns the point of one read-out, by default the trial's own; raises ResultsError where there is none."""
        wanted = self.read_step if read_step is None else read_step
        for point in self.points():
            if point.read_step == wanted:
                return point
        if self.epochs or read_step is not None:
            known = ", ".join(str(point.read_step) for point in self.points()) or "none"
            raise ResultsError(f"trial {self.number} has no read-out after {wanted} steps; it has: {known}")
        return FrontPoint(self.number, wanted, {}, self.params)

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        steps = self.read_outs or ({"read_step": self.read_step},) if self.epochs else ()
        return tuple(self._point(step) for step in steps)

    def _point(self, read_out: Mapping[str, float]) -> FrontPoint:
        measured = {name: value for name, value in read_out.items() if name != "read_step"}
        return FrontPoint(self.number, int(read_out["read_step"]), {**self.metrics, **measured}, self.params)


@dataclass(frozen=True)
class StudyResult:
    """A search: what it asked for and its trials, in the order of their numbers.

    `objectives` map metrics to maximize or minimize; `epochs` is full fidelity; `attrs` is all that the search noted
    of itself (space, seed, versions, ...). Trials refused before training are only counted, and in a folder only.
    """

    name: str
    objectives: dict[str, str]
    searched: tuple[str, ...]
    epochs: int
    constraints: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: tuple[TrialResult, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    num_infeasible: int = field(default=0, compare=False)

    def trial(self, number: int) -> TrialResult:
        """Returns the trial of that number."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise ResultsError(
            f"there is no trial {number} in {self.name}; it has {_ranges(t.number for t in self.trials)}"
        )

    def select(self, state: State) -> tuple[TrialResult, ...]:
        """Returns the trials of one state."""
        return tuple(trial for trial in self.trials if trial.state == state)

    def points(self) -> list[FrontPoint]:
        """Returns the candidates of the front: read-outs of full-fidelity trials that satisfy the constraints.

        A read-out whose accuracy is no better than a guess is none, however few spikes it takes.
        """
        return list(self._points)

    def front(self) -> list[FrontPoint]:
        """Returns the non-dominated points, best first objective first.

        Of points that are equal in every objective only the lowest trial's, then the earliest read-out, is kept.
        """
        return list(self._front)

    def leading(self) -> StudyResult:
        """Returns the study with those trials alone on which its front and its hypervolume depend.

        They are those on the front, and for each objective one that is the worst: it may be the reference point's.
        """
        kept = {point.trial for point in self._front}
        for place in range(len(self.objectives) if self._valued else 0):
            kept.add(max(self._valued, key=lambda pair: pair[0][place])[1].trial)
        found = replace(self, trials=tuple(trial for trial in self.trials if trial.number in kept))
        vars(found)["_front"] = self._front  # the same by the above, and not computed again
        vars(found)["_points"] = tuple(point for point in self._points if point.trial in kept)
        return found

    def joined(self, trial: TrialResult) -> StudyResult:
        """Returns the study with one more trial; what is known of the others is not computed again."""
        found = replace(self, trials=(*self.trials, trial))
        vars(found)["_points"] = (*self._points, *self._of(trial))
        return found

    def knee(self) -> FrontPoint | None:
        """Returns the front's best compromise, or nothing where the front is empty."""
        front = self.front()
        return front[pareto.knee([self.values(point) for point in front])] if front else None

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """Returns the point's objectives, each so that smaller is better."""
        return tuple(
            -point.metrics[name] if direction == "maximize" else point.metrics[name]
            for name, direction in self.objectives.items()
        )

    def direction(self, metric: str) -> str:
        """Returns which way a metric is better: as the objectives say, or else by its nature."""
        return self.objectives.get(metric) or SHOWN[metric].direction

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        return tuple(point for trial in self.trials for point in self._of(trial))

    def _of(self, trial: TrialResult) -> list[FrontPoint]:
        return [point for point in trial.points() if self._counts(point)] if trial.state == "complete" else []

    @cached_property
    def _front(self) -> tuple[FrontPoint, ...]:
        ordered = sorted(self._valued, key=lambda pair: (*pair[0], pair[1].trial, pair[1].read_step))
        on_front = pareto.non_dominated([values for values, _ in ordered])
        firsts: dict[tuple[float, ...], FrontPoint] = {}
        for (values, point), kept in zip(ordered, on_front, strict=True):
            if kept:
                firsts.setdefault(values, point)
        return tuple(firsts.values())

    @cached_property
    def _valued(self) -> list[tuple[tuple[float, ...], FrontPoint]]:
        return [(self.values(point), point) for point in self._points]

    def _counts(self, point: FrontPoint) -> bool:
        if point.metrics.get("accuracy", math.inf) <= point.metrics.get("chance", -math.inf):
            return False
        values = [point.metrics.get(name, math.nan) for name in self.objectives]
        return all(map(math.isfinite, values)) and all(
            limits.get("min", -math.inf) <= point.metrics.get(name, math.nan) <= limits.get("max", math.inf)
            for name, limits in self.constraints.items()
        )


def _ranges(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return f"{len(ordered)} from {ordered[0]} to {ordered[-1]}" if ordered else "none"
