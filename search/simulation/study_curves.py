"""A study of one's own in place of a recorded table: its trials answer for the configs nearest to them.

It is no grid: most trials were stopped, and what they would have shown later is taken to stay as it last was. So their
ends never count for the hypervolume, and `trust` says how much of a simulation was recorded at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config.errors import ConfigError
from results.study import StudyResult, TrialResult
from search.algorithm.prior import distance
from search.simulation.recorded_curves import Curve, identity
from search.simulation.simulator import Trace
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

NOT_OF_THE_CONFIG = frozenset({"infeasible", "oom", "stalled", "killed", "error"})
"""Failures that say nothing of the config's curve."""
MIN_COMPLETE = 10


class StudyCurves:
    """The curves of a study. With `is_held`, those that end early go on with their last values, else they just end."""

    def __init__(self, study: StudyResult, space: Space, *, is_held: bool = True) -> None:
        """Raises ConfigError where no trial was trained in full."""
        usable = [t for t in study.trials if t.failure_class not in NOT_OF_THE_CONFIG and (t.epochs or t.failure_class)]
        distinct: dict[str, TrialResult] = {}
        for trial in sorted(usable, key=lambda trial: -trial.num_epochs):
            distinct.setdefault(identity(trial.params), trial)
        self.trials = sorted(distinct.values(), key=lambda trial: trial.number)
        self.space, self.is_held, self.epochs = space, is_held, study.epochs
        self.seeds = (0,)
        self.configs = tuple(trial.params for trial in self.trials)
        self.numbers = {identity(values): number for number, values in enumerate(self.configs)}
        self.distances: list[float] = []
        if not self.complete:
            raise ConfigError(f"{study.name}: no trial was trained in full, so there is nothing to compare searches by")

    @property
    def complete(self) -> int:
        """Returns how many trials were recorded to the end."""
        return sum(trial.num_epochs >= self.epochs for trial in self.trials)

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of the trial whose config is nearest; of equals the first."""
        found = self.numbers.get(identity(values))
        if found is None:
            gaps = [distance(self.space, values, other) for other in self.configs]
            found = gaps.index(min(gaps))
            self.distances.append(gaps[found])
        else:
            self.distances.append(0.0)
        return found

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the recorded epochs of a trial, which take equal times."""
        trial = self.trials[index]
        epochs = [_epoch(trial, metrics) for metrics in trial.epochs]
        if trial.failure_class not in (None, "at_chance"):
            return Curve(tuple(epochs), (1.0,) * len(epochs), (str(trial.failure_class), len(epochs) + 0.5))
        while self.is_held and len(epochs) < self.epochs:
            last = epochs[-1]
            epochs.append(EpochMetrics(last.epoch + 1, last.metrics, last.read_outs, []))
        return Curve(tuple(epochs), (1.0,) * len(epochs), None)

    def reliability(self, traces: Sequence[Trace]) -> dict[str, float]:
        """Returns what tells how far simulations on this study can be trusted, each a plain number."""
        ends = [event for trace in traces for event in trace.last().values()]
        simulated = sum(event.epoch for event in ends)
        recorded = sum(min(event.epoch, self.trials[event.config].num_epochs) for event in ends)
        return {
            "configs": len(self.configs),
            "complete": self.complete,
            "recorded_share": recorded / max(simulated, 1),
            "mean_distance": sum(self.distances) / max(len(self.distances), 1),
        }


def describe_reliability(trust: Mapping[str, float]) -> str:
    """Returns the same in words."""
    few = " That is too few to tell searches apart." if trust["complete"] < MIN_COMPLETE else ""
    return (
        f"How far to trust this: a study is no grid. {trust['configs']:.0f} configs stand for the whole space, and "
        f"{trust['complete']:.0f} of them were trained in full;{few or ' only those count below.'} The nearest config "
        f"answered, {trust['mean_distance']:.2f} keys away in the mean. {trust['recorded_share']:.0%} of the simulated "
        f"epochs were recorded; the others repeat a trial's last one. What the study never tried cannot be found here, "
        f"so searches unlike the one that recorded it look worse than they are."
    )


def _epoch(trial: TrialResult, metrics: Mapping[str, float]) -> EpochMetrics:
    """Returns an epoch as a trial reports it; read-outs are known of the last one, before it the trial's own alone."""
    number = int(metrics["epoch"])
    measured = {name: value for name, value in metrics.items() if name != "epoch"}
    if number == trial.num_epochs and trial.read_outs:
        return EpochMetrics(number, measured, [dict(read_out) for read_out in trial.read_outs], [])
    chance = trial.read_outs[0].get("chance", 0.0) if trial.read_outs else 0.0
    return EpochMetrics(number, measured, [{"read_step": trial.read_step, "chance": chance, **measured}], [])
