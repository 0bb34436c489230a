"""One trial of a search and its measured points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from results.metrics import ALL_METRICS, EXTRA_METRICS, METRICS, ResultsError, counted, format_metric, format_params
from results.study.seeds import ReadOut, Spreads

TrialStatus = Literal["complete", "stopped", "failed", "running", "paused"]


EXIT_DETAILS = ("images", "calibration_images", "calibrated_accuracy", "calibrated_steps")
"""Values of an exit point about its calibration and its numbers of images."""

REPR_METRICS = ("accuracy", "spike_rate", "synops", "energy_mj")
"""Metrics that the short form of a trial or point shows."""


@dataclass(frozen=True)
class Exit:
    """Exit point of a training: the rule and thresholds at which images exit before the last step.

    `number` is the point's among those of its training. `details` holds the outcome on the images of the calibration
    and the numbers of images.
    """

    number: int
    rule: str
    threshold: float | tuple[float, ...]
    details: dict[str, float] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """Returns the keys of the train file."""
        threshold = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        return {"exit_rule": self.rule, "exit_threshold": threshold}

    def __str__(self) -> str:
        thresholds = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        return f"{self.rule} {' '.join(map(repr, thresholds))}"


@dataclass(frozen=True, repr=False)
class FrontPoint:
    """One measured network: a trial whose output is read after `read_step` of its timesteps.

    With an `exit`, an image is read at the first step at which it is sure, at the latest at `read_step`.

    With several seeds of its config, `metrics` are means over these, and `spreads` their means and deviations; `test`
    holds those on the test set.
    """

    trial: int
    read_step: int
    metrics: dict[str, float]
    params: dict[str, Any]
    spreads: Spreads = field(default_factory=dict)
    test: Spreads = field(default_factory=dict)
    exit: Exit | None = None

    def __repr__(self) -> str:
        parts = (
            f"{self.key} read after {counted(self.read_step, 'step')}{f', exits {self.exit}' if self.exit else ''}",
            _short(self.metrics),
            format_params(self.params),
        )
        return f"FrontPoint({'; '.join(filter(None, parts))})"

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.trial:04d}"

    @property
    def exit_number(self) -> int:
        """Returns the number of the exit point, 0 for a plain read-out."""
        return 0 if self.exit is None else self.exit.number

    @property
    def read(self) -> str:
        """Returns the step at which the point is read, or the mean step with the rule and thresholds of its exits."""
        return str(self.read_step) if self.exit is None else f"{self.metrics['steps']:.2f} ({self.exit})"

    @property
    def read_out(self) -> ReadOut:
        """Returns what identifies the point in its study."""
        return self.trial, self.read_step, self.exit_number

    @property
    def seeds(self) -> int:
        """Returns the number of seeds that the metrics are means over; 0 if they are those of one trial."""
        return max((spread.seeds for spread in self.spreads.values()), default=0)

    def interval(self, metric: str) -> tuple[float, float]:
        """Returns the mean minus and plus the standard deviation; a positive metric's lower end stays positive."""
        value = self.metrics[metric]
        deviation = self.spreads[metric].deviation if metric in self.spreads else 0.0
        low = value - deviation
        return (0.1 * value if value > 0 >= low else low), value + deviation

    def with_seeds(self, spreads: Spreads, test: Spreads) -> FrontPoint:
        """Returns the point with its metrics over seeds."""
        means = {name: spread.mean for name, spread in spreads.items()}
        return replace(self, metrics={**self.metrics, **means}, spreads=spreads, test=test)

    def describe_seeds(self, names: Iterable[str]) -> str:
        """Returns mean and deviation of some metrics, and the test accuracy; empty with one seed."""
        texts = [f"{name} {self.spreads[name]}" for name in names if name in self.spreads]
        if "accuracy" in self.test:
            texts.append(f"test accuracy {self.test['accuracy']}")
        return ", ".join(texts)


@dataclass(frozen=True, repr=False)
class TrialResult:
    """One trial: its train file and its measurements.

    `epochs` holds the metrics of each epoch, with the epoch's number under `epoch`; `read_outs` holds those of the last
    epoch, one per read-out, with `read_step`, and `exits` those of its exit points. `params` are the searched values
    that are active in this trial. `stop_reason` is set if something other than a rung stopped the trial. `source` is
    the origin of the config: the sampler, a name in `start_with`, `added`, ... `seed_of` is the trial whose config it
    repeats with another seed. `run_id` is its MLflow run. `started`, `ended` and `times` are the
    start and the end of the trial and the end of each epoch in seconds since 1970, and `pauses` the epochs after which
    it was paused; MLflow does not hold them.
    """

    number: int
    state: TrialStatus
    config: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[dict[str, float], ...] = ()
    read_outs: tuple[dict[str, float], ...] = ()
    exits: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    failure_class: str | None = None
    failure_reason: str | None = None
    stop_reason: str | None = None
    seed_of: int | None = None
    source: str | None = field(default=None, compare=False)
    run_id: str | None = field(default=None, compare=False)
    started: float | None = field(default=None, compare=False)
    ended: float | None = field(default=None, compare=False)
    times: tuple[float, ...] = field(default=(), compare=False)
    pauses: tuple[int, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        head = f"{self.key} {self.state}, {counted(self.num_epochs, 'epoch')}"
        reason = ": ".join(filter(None, (self.failure_class, (self.failure_reason or "").partition("\n")[0])))
        return (
            f"TrialResult({'; '.join(filter(None, (head, reason, _short(self.metrics), format_params(self.params))))})"
        )

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
    def duration_s(self) -> float | None:
        """Returns the seconds from the start to the end of the last epoch, or to the failure; pauses are included."""
        ends = [*self.times[-1:], *([self.ended] if self.state == "failed" and self.ended is not None else [])]
        return max(ends) - self.started if ends and self.started is not None else None

    @property
    def read_step(self) -> int:
        """Returns the number of timesteps after which the trial itself reads its output."""
        return int(self.config.get("read_step") or self.config.get("step") or 1)

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Returns (epoch, value) of one metric."""
        return [(int(epoch["epoch"]), epoch[metric]) for epoch in self.epochs if metric in epoch]

    def points(self) -> list[FrontPoint]:
        """Returns a point for each read-out and exit point of the last epoch.

        A metric that one lacks is the trial's.
        """
        return list(self._points)

    def point(self, read_step: int | None = None, exit_number: int = 0) -> FrontPoint:
        """Returns one read-out, by default the trial's own, or one exit point. Raises ResultsError if there is none."""
        wanted = self.read_step if read_step is None else read_step
        for point in self.points():
            if point.exit_number == exit_number and (exit_number or point.read_step == wanted):
                return point
        if exit_number:
            numbers = ", ".join(str(point.exit_number) for point in self.points() if point.exit) or "none"
            raise ResultsError(f"trial {self.number} has no exit point {exit_number}; it has: {numbers}")
        if self.epochs or read_step is not None:
            available = ", ".join(str(point.read_step) for point in self.points() if not point.exit) or "none"
            raise ResultsError(f"trial {self.number} has no read-out after {wanted} steps; it has: {available}")
        return FrontPoint(self.number, wanted, {}, self.params)

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        steps = self.read_outs or ({"read_step": self.read_step},) if self.epochs else ()
        measured = [{name: value for name, value in step.items() if name != "read_step"} for step in steps]
        plain = (
            FrontPoint(self.number, int(step["read_step"]), {**self.metrics, **metrics}, self.params)
            for step, metrics in zip(steps, measured, strict=True)
        )
        return (*plain, *map(self._exit_point, self.exits))

    def _exit_point(self, row: dict[str, Any]) -> FrontPoint:
        threshold = row["exit_threshold"]
        found = Exit(
            number=row["exit"],
            rule=row["exit_rule"],
            threshold=tuple(threshold) if isinstance(threshold, list) else threshold,
            details={name: row[name] for name in EXIT_DETAILS if name in row},
        )
        metrics = {**self.metrics, **{name: value for name, value in row.items() if name in ALL_METRICS}}
        return FrontPoint(self.number, int(row["read_step"]), metrics, self.params, exit=found)


def _short(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {format_metric(name, metrics[name])}" for name in REPR_METRICS if name in metrics)


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


def parse_exits(exits: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Returns the stored exit points with the values that we know."""
    names = (*ALL_METRICS, *EXIT_DETAILS, "read_step", "exit", "exit_rule", "exit_threshold")
    return tuple({name: row[name] for name in names if name in row} for row in exits)


def known_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the stored metrics that we know, as floats."""
    return {name: float(values[name]) for name in METRICS if values.get(name) is not None}
