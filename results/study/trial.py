"""One trial of a search and its measured points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from results.metrics import EXTRA_METRICS, METRICS, ResultsError, counted, format_metric, format_params
from results.study.seeds import Spreads

TrialStatus = Literal["complete", "stopped", "failed", "running", "paused"]


REPR_METRICS = ("accuracy", "spike_rate", "synops", "energy_mj")
"""Metrics that the short form of a trial or point shows."""


@dataclass(frozen=True, repr=False)
class FrontPoint:
    """One measured network: a trial whose output is read after `read_step` of its timesteps.

    With several seeds of its config, `metrics` are means over these, and `spreads` their means and deviations; `test`
    holds those on the test set.
    """

    trial: int
    read_step: int
    metrics: dict[str, float]
    params: dict[str, Any]
    spreads: Spreads = field(default_factory=dict)
    test: Spreads = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = (
            f"{self.key} read after {counted(self.read_step, 'step')}",
            _short(self.metrics),
            format_params(self.params),
        )
        return f"FrontPoint({'; '.join(filter(None, parts))})"

    @property
    def key(self) -> str:
        """Returns the trial's key, as in file names."""
        return f"t{self.trial:04d}"

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
    epoch, one per read-out, with `read_step`. `params` are the searched values that are active in this trial.
    `stop_reason` is set if something other than a rung stopped the trial. `source` is the origin of the config: the
    sampler, a name in `start_with`, `added`, ... `seed_of` is the trial whose config it repeats with another seed.
    `run_id` is its MLflow run. `started`, `ended` and `times` are the
    start and the end of the trial and the end of each epoch in seconds since 1970, and `pauses` the epochs after which
    it was paused; MLflow does not hold them.
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


def known_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the stored metrics that we know, as floats."""
    return {name: float(values[name]) for name in METRICS if values.get(name) is not None}
