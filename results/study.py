"""Results of a search: its trials, the points they measured, and the Pareto front of these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from results import pareto
from results.metrics import ALL_METRICS, EXTRA_METRICS, METRICS, ResultsError
from results.seeds import ATTRS, Confirmation, Spreads

TrialStatus = Literal["complete", "stopped", "failed", "running", "paused"]


@dataclass(frozen=True)
class FrontPoint:
    """One measured network: a trial whose output is read after `read_step` of its timesteps.

    With fresh seeds, `metrics` are means over these, `spreads` their means and deviations, and `test` those on the test
    set.
    """

    trial: int
    read_step: int
    metrics: dict[str, float]
    params: dict[str, Any]
    spreads: Spreads = field(default_factory=dict)
    test: Spreads = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.trial:04d}"

    @property
    def seeds(self) -> int:
        """Returns the number of fresh seeds; 0 if the metrics are those of the search's own training."""
        return max((spread.seeds for spread in self.spreads.values()), default=0)

    def interval(self, metric: str) -> tuple[float, float]:
        """Returns the mean minus and plus the standard deviation; a positive metric's lower end stays positive."""
        value = self.metrics[metric]
        deviation = self.spreads[metric].deviation if metric in self.spreads else 0.0
        low = value - deviation
        return (0.1 * value if value > 0 >= low else low), value + deviation

    def with_seeds(self, spreads: Spreads, test: Spreads) -> FrontPoint:
        """Returns the point with its metrics over fresh seeds."""
        means = {name: spread.mean for name, spread in spreads.items()}
        return replace(self, metrics={**self.metrics, **means}, spreads=spreads, test=test)

    def describe_seeds(self, names: Iterable[str]) -> str:
        """Returns mean and deviation of some metrics, and the test accuracy; empty without fresh seeds."""
        texts = [f"{name} {self.spreads[name]}" for name in names if name in self.spreads]
        if "accuracy" in self.test:
            texts.append(f"test accuracy {self.test['accuracy']}")
        return ", ".join(texts)


@dataclass(frozen=True)
class TrialResult:
    """One trial: its train file and its measurements.

    `epochs` holds the metrics of each epoch, with the epoch's number under `epoch`; `read_outs` holds those of the last
    epoch, one per read-out, with `read_step`. `params` are the searched values that are active in this trial.
    `stop_reason` is set if something other than a rung stopped the trial. `run_id` is its MLflow run. `started`,
    `ended` and `times` are the start and the end of the trial and the end of each epoch in seconds since 1970, and
    `pauses` the epochs after which it was paused; MLflow does not hold them.
    """

    number: int
    state: TrialStatus
    config: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[dict[str, float], ...] = ()
    read_outs: tuple[dict[str, float], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    failure_class: str | None = None
    failure_reason: str | None = None
    stop_reason: str | None = None
    run_id: str | None = field(default=None, compare=False)
    started: float | None = field(default=None, compare=False)
    ended: float | None = field(default=None, compare=False)
    times: tuple[float, ...] = field(default=(), compare=False)
    pauses: tuple[int, ...] = field(default=(), compare=False)

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.number:04d}"

    @property
    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the last epoch; empty before the first epoch."""
        return {name: value for name, value in self.epochs[-1].items() if name != "epoch"} if self.epochs else {}

    @property
    def num_epochs(self) -> int:
        """Returns the number of the last measured epoch, 0 before the first."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def read_step(self) -> int:
        """Returns the number of timesteps after which the trial itself reads its output."""
        return int(self.config.get("read_step") or self.config.get("step") or 1)

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Returns (epoch, value) of one metric."""
        return [(int(epoch["epoch"]), epoch[metric]) for epoch in self.epochs if metric in epoch]

    def points(self) -> list[FrontPoint]:
        """Returns a point for each read-out of the last epoch; a metric that a read-out lacks is the trial's."""
        return list(self._points)

    def point(self, read_step: int | None = None) -> FrontPoint:
        """Returns the point of one read-out, by default the trial's own. Raises ResultsError if there is none."""
        wanted = self.read_step if read_step is None else read_step
        for point in self.points():
            if point.read_step == wanted:
                return point
        if self.epochs or read_step is not None:
            available = ", ".join(str(point.read_step) for point in self.points()) or "none"
            raise ResultsError(f"trial {self.number} has no read-out after {wanted} steps; it has: {available}")
        return FrontPoint(self.number, wanted, {}, self.params)

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        steps = self.read_outs or ({"read_step": self.read_step},) if self.epochs else ()
        measured = [{name: value for name, value in step.items() if name != "read_step"} for step in steps]
        return tuple(
            FrontPoint(self.number, int(step["read_step"]), {**self.metrics, **metrics}, self.params)
            for step, metrics in zip(steps, measured, strict=True)
        )


@dataclass(frozen=True)
class StudyResult:
    """A search: its objectives, constraints and trials, ordered by number.

    `objectives` maps metrics to `maximize` or `minimize`; `epochs` is full fidelity; `attrs` is the study's metadata
    (space, seed, versions, ...). Trials refused before training are only counted, in `num_infeasible`; MLflow does not
    hold this count.
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
        """Returns the trial of that number. Raises ResultsError if there is none."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        numbers = sorted(trial.number for trial in self.trials)
        available = f"{len(numbers)} from {numbers[0]} to {numbers[-1]}" if numbers else "none"
        raise ResultsError(f"there is no trial {number} in {self.name}; it has {available}")

    def select(self, state: TrialStatus) -> tuple[TrialResult, ...]:
        """Returns the trials of one state."""
        return tuple(trial for trial in self.trials if trial.state == state)

    def failures(self) -> dict[str, list[TrialResult]]:
        """Returns the failed trials by their failure class."""
        found: dict[str, list[TrialResult]] = {}
        for trial in self.select("failed"):
            found.setdefault(trial.failure_class or "error", []).append(trial)
        return found

    def points(self) -> list[FrontPoint]:
        """Returns the candidates for the front: read-outs of full-fidelity trials that satisfy the constraints.

        A read-out whose accuracy is no better than chance is not a candidate. After a confirmation, points count by
        their means over fresh seeds, and the trials that it did not retrain are no candidates.
        """
        return list(self._points)

    def point(self, trial: int, read_step: int | None = None) -> FrontPoint:
        """Returns the point of a trial's read-out, by default its own. Raises ResultsError if there is none."""
        return self._with_seeds(self.trial(trial).point(read_step))

    def unconfirmed(self) -> StudyResult:
        """Returns the study as the search measured it, without the seeds of a confirmation."""
        attrs = {key: value for key, value in self.attrs.items() if key not in ATTRS}
        return self if len(attrs) == len(self.attrs) else replace(self, attrs=attrs)

    @cached_property
    def confirmation(self) -> Confirmation:
        """Returns the metrics over fresh seeds."""
        return Confirmation.from_attrs(self.attrs)

    def read_outs(self, *, confirmed: bool = True) -> list[FrontPoint]:
        """Returns all read-outs of full-fidelity trials; without `confirmed`, those that a confirmation left out."""
        complete = self.select("complete")
        trials = [trial for trial in complete if self.confirmation.is_unconfirmed(trial.number) != confirmed]
        return [self._with_seeds(point) for trial in trials for point in trial.points()]

    def front(self) -> list[FrontPoint]:
        """Returns the non-dominated points, ordered by the first objective, best first.

        Of points that are equal in every objective, only the one with the lowest trial, then read-out, is returned.
        """
        return list(self._front)

    def reduced_to_front(self) -> StudyResult:
        """Returns the study with only those trials that determine its front and its hypervolume.

        These are the trials on the front and, for each objective, one with the worst value, which may be the reference
        point's.
        """
        needed = {point.trial for point in self._front}
        if self._objective_rows:
            for objective in range(len(self.objectives)):
                needed.add(max(self._objective_rows, key=lambda row: row[0][objective])[1].trial)
        found = replace(self, trials=tuple(trial for trial in self.trials if trial.number in needed))
        vars(found)["_front"] = self._front  # unchanged, as explained above, so it is not computed again
        vars(found)["_points"] = tuple(point for point in self._points if point.trial in needed)
        return found

    def with_trial(self, trial: TrialResult) -> StudyResult:
        """Returns the study with one more trial; the points of the others are not computed again."""
        found = replace(self, trials=(*self.trials, trial))
        vars(found)["_points"] = (*self._points, *self._candidates(trial))
        return found

    def knee(self) -> FrontPoint | None:
        """Returns the front's best compromise, or None if the front is empty."""
        front = self.front()
        return front[pareto.knee([self.values(point) for point in front])] if front else None

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """Returns the point's objectives as values to minimize."""
        return tuple(
            -point.metrics[name] if direction == "maximize" else point.metrics[name]
            for name, direction in self.objectives.items()
        )

    def direction(self, metric: str) -> str:
        """Returns whether to maximize or minimize a metric: from the objectives, else the metric's own direction."""
        return self.objectives.get(metric) or ALL_METRICS[metric].direction

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        return tuple(point for trial in self.trials for point in self._candidates(trial))

    def _candidates(self, trial: TrialResult) -> list[FrontPoint]:
        if trial.state != "complete" or self.confirmation.is_unconfirmed(trial.number):
            return []
        return [point for point in map(self._with_seeds, trial.points()) if self._is_candidate(point)]

    def _with_seeds(self, point: FrontPoint) -> FrontPoint:
        read_out, found = (point.trial, point.read_step), self.confirmation
        spreads = found.validation.get(read_out)
        return point.with_seeds(spreads, found.test.get(read_out, {})) if spreads else point

    @cached_property
    def _front(self) -> tuple[FrontPoint, ...]:
        ordered = sorted(self._objective_rows, key=lambda row: (*row[0], row[1].trial, row[1].read_step))
        on_front = pareto.non_dominated([values for values, _ in ordered])
        distinct: dict[tuple[float, ...], FrontPoint] = {}
        for (values, point), is_on_front in zip(ordered, on_front, strict=True):
            if is_on_front:
                distinct.setdefault(values, point)
        return tuple(distinct.values())

    @cached_property
    def _objective_rows(self) -> list[tuple[tuple[float, ...], FrontPoint]]:
        return [(self.values(point), point) for point in self._points]

    def _is_candidate(self, point: FrontPoint) -> bool:
        if point.metrics.get("accuracy", math.inf) <= point.metrics.get("chance", -math.inf):
            return False
        values = [point.metrics.get(name, math.nan) for name in self.objectives]
        return all(map(math.isfinite, values)) and all(
            limits.get("min", -math.inf) <= point.metrics.get(name, math.nan) <= limits.get("max", math.inf)
            for name, limits in self.constraints.items()
        )


def build_study(name: str, attrs: Mapping[str, Any], trials: Iterable[TrialResult]) -> StudyResult:
    """Returns the study with these attributes and trials. Raises ResultsError if no search of ours wrote it."""
    missing = [key for key in ("objectives", "searched", "epochs") if key not in attrs]
    if missing:
        raise ResultsError(f"study {name} was not written by `python -m search.run`: it lacks {', '.join(missing)}")
    ordered = sorted(trials, key=lambda trial: trial.number)
    feasible = tuple(trial for trial in ordered if trial.failure_class != "infeasible")
    return StudyResult(
        name=name,
        objectives=dict(attrs["objectives"]),
        searched=tuple(attrs["searched"]),
        epochs=int(attrs["epochs"]),
        constraints=dict(attrs.get("constraints") or {}),
        trials=feasible,
        attrs=dict(attrs),
        num_infeasible=len(ordered) - len(feasible),
    )


def parse_read_outs(read_outs: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], ...]:
    """Returns the stored read-outs with the metrics that we know, as floats."""
    return tuple(
        {
            "read_step": int(values["read_step"]),
            **{name: float(values[name]) for name in EXTRA_METRICS if name in values},
            **known_metrics(values),
        }
        for values in read_outs
    )


def known_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the stored metrics that we know, as floats."""
    return {name: float(values[name]) for name in METRICS if values.get(name) is not None}
