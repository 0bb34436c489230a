"""Learning curves of a study in place of a recorded table: its trials answer for the configs nearest to them.

A study is not a grid. Most trials were stopped, and their later epochs are assumed to repeat the last one; their ends
never count for the hypervolume. `reliability` says how much of a simulation was recorded at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config.errors import ConfigError
from results.study import StudyResult, TrialResult
from search.algorithm.prior import distance
from search.algorithm.samplers import config_key
from search.simulation.recorded_curves import Curve
from search.simulation.simulator import Trace
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

OTHER_FAILURES = frozenset({"infeasible", "oom", "stalled", "killed", "error"})
"""Failures unrelated to the config's curve."""
MIN_COMPLETE = 10


class StudyCurves:
    """The curves of a study; with `is_extended` those that end early repeat their last epoch, else they end there."""

    def __init__(self, study: StudyResult, space: Space, *, is_extended: bool = True) -> None:
        """Raises ConfigError if no trial was trained in full."""
        usable = [t for t in study.trials if t.failure_class not in OTHER_FAILURES and (t.epochs or t.failure_class)]
        distinct: dict[str, TrialResult] = {}
        for trial in sorted(usable, key=lambda trial: -trial.num_epochs):
            distinct.setdefault(config_key(trial.params), trial)
        self.trials = sorted(distinct.values(), key=lambda trial: trial.number)
        self.space, self.is_extended, self.epochs = space, is_extended, study.epochs
        self.seeds = (0,)
        self.configs = tuple(trial.params for trial in self.trials)
        self.numbers = {config_key(values): number for number, values in enumerate(self.configs)}
        self.distances: list[float] = []
        self.num_complete = sum(trial.num_epochs >= self.epochs for trial in self.trials)
        if not self.num_complete:
            raise ConfigError(f"{study.name}: no trial was trained in full, so there is nothing to compare searches by")

    @property
    def chance(self) -> float:
        """Returns the chance level that the trials reported, in percent, else that of equal classes."""
        reported = (row["chance"] for trial in self.trials for row in trial.read_outs if "chance" in row)
        return next(reported, 100.0 / self.space.example.num_classes)

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of the trial with the nearest config, the first of equal ones."""
        found, gap = self.numbers.get(config_key(values)), 0.0
        if found is None:
            gaps = [distance(self.space, values, other) for other in self.configs]
            gap = min(gaps)
            found = gaps.index(gap)
        self.distances.append(gap)
        return found

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the recorded epochs of a trial, all of equal cost."""
        trial = self.trials[index]
        epochs, failure = [_epoch(trial, metrics) for metrics in trial.epochs], None
        if trial.failure_class not in (None, "at_chance"):
            failure = str(trial.failure_class), len(epochs) + 0.5
        elif self.is_extended:
            last, missing = epochs[-1], range(1, self.epochs - len(epochs) + 1)
            epochs += [EpochMetrics(last.epoch + i, last.metrics, last.read_outs, []) for i in missing]
        return Curve(tuple(epochs), (1.0,) * len(epochs), failure)

    def reliability(self, traces: Sequence[Trace]) -> dict[str, float]:
        """Returns figures that tell how reliable simulations on this study are."""
        ends = [event for trace in traces for event in trace.last().values()]
        simulated = sum(event.epoch for event in ends)
        recorded = sum(min(event.epoch, self.trials[event.config].num_epochs) for event in ends)
        return {
            "configs": len(self.configs),
            "complete": self.num_complete,
            "recorded_share": recorded / max(simulated, 1),
            "mean_distance": sum(self.distances) / max(len(self.distances), 1),
        }


def describe_reliability(figures: Mapping[str, float]) -> str:
    """Returns the figures of `reliability` as text."""
    few = ", which is too few to tell searches apart." if figures["complete"] < MIN_COMPLETE else ""
    return (
        f"Reliability: a study is not a grid. {figures['configs']:.0f} configs represent the whole space; "
        f"{figures['complete']:.0f} were trained in full{few or '; only those count below.'} Suggestions were answered "
        f"by the nearest config, on average {figures['mean_distance']:.2f} keys away. {figures['recorded_share']:.0%} "
        f"of the simulated epochs were recorded; the others repeat a trial's last one. Configs that the study never "
        f"tried cannot be found here, so searches unlike the one that recorded it look worse than they are."
    )


def _epoch(trial: TrialResult, metrics: Mapping[str, float]) -> EpochMetrics:
    """Returns an epoch as a trial reports it; before the last epoch, only the trial's own read-out is known."""
    number = int(metrics["epoch"])
    measured = {name: value for name, value in metrics.items() if name != "epoch"}
    if number == trial.num_epochs and trial.read_outs:
        return EpochMetrics(number, measured, [dict(read_out) for read_out in trial.read_outs], [])
    chance = {key: value for row in trial.read_outs[:1] for key, value in row.items() if key == "chance"}
    return EpochMetrics(number, measured, [{"read_step": trial.read_step, **chance, **measured}], [])
