"""Rivals of the search as trial schedulers for the simulator: each proposes and stops as its library does.

Optuna's samplers, random search included, may suggest a config twice and pay for it twice, as they do in a space of
choices. `random_unrepeated`, Sobol and random sampling for ASHA take each config of the grid once. This favours them,
since on a small table they end with all configs. All start from the same ten random configs, observe the same curves,
and compare at the same rungs, except OptunaHub's pruner, which decides after each epoch.
`benchmarks/search_peers.py` runs the optimizers of NePS and Syne Tune themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from scipy.stats import qmc

from benchmarks.stopping_rules import MultiMetricPruner, MultiObjective, RayAsha, Rule, Scalarised, SyneTune
from search.algorithm.trial import Assignment, Decision
from search.simulation.simulator import CurveTable, uniform
from search.space import objectives
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

NUM_INITIAL = 10
"""Random configs with which every rival starts, the same in a repeat."""
SOBOL_DIMENSIONS = 32
MAX_ORDERED = 50_000
"""Configs in the random order of a larger table, more than any search starts."""

Values = Mapping[str, Any]


class Proposer(Protocol):
    """Source of new configs."""

    def suggest(self, number: int) -> Values | None: ...

    def on_complete(self, number: int, report: EpochMetrics) -> None:
        """Called with the last epoch of a trial that was trained in full or stopped."""

    def on_error(self, number: int) -> None: ...


class Rival:
    """Trial scheduler of a proposer and a rule; without a rule all trials are trained in full."""

    def __init__(self, proposer: Proposer, space: Space, rule: Rule | None = None) -> None:
        self.proposer, self.rule = proposer, rule
        self.epochs = space.budget.epochs
        self.rungs: dict[int, dict[int, EpochMetrics]] = {level: {} for level in space.rung_epochs()}
        self.count = 0

    def suggest(self) -> Assignment | None:
        values = self.proposer.suggest(self.count)
        if values is None:
            return None
        self.count += 1
        return Assignment(self.count - 1, dict(values), 0)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        if report.epoch == self.epochs:
            self.proposer.on_complete(number, report)
            return "complete"
        if self.rule is None or report.epoch not in self.rungs:
            return "continue"
        rung = self.rungs[report.epoch]
        rung[number] = report
        if self.rule(rung, number):
            return "continue"
        self.proposer.on_complete(number, report)
        return "stop"

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        for rung in self.rungs.values():
            rung.pop(number, None)
        self.proposer.on_error(number)


class Pruned(Rival):
    """Optuna's sampler with OptunaHub's pruner, which is asked after each epoch."""

    def __init__(self, proposer: Optuna, space: Space) -> None:
        super().__init__(proposer, space)
        self.space, self.optuna, self.pruner = space, proposer, MultiMetricPruner()

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        self.pruner.report(number, report.epoch, objectives.objective_vector(self.space, report.metrics, minimise=True))
        if report.epoch < self.epochs and not self.pruner.should_prune(number, report.epoch):
            return "continue"
        self.pruner.ended.add(number)
        if report.epoch < self.epochs:
            self.optuna.on_prune(number)
            return "stop"
        return super().on_result(number, report)

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        self.pruner.ended.add(number)
        super().on_error(number, failure_class, reason)


class Shuffled:
    """Random search without replacement; once all configs were started, stopped ones are started again."""

    def __init__(self, table: CurveTable, run: int) -> None:
        self.table = table
        self.queue = shuffled(table, run)
        self.running: dict[int, int] = {}
        self.stopped: list[int] = []

    def suggest(self, number: int) -> Values | None:
        if not self.queue:
            self.queue, self.stopped = self.stopped, []
        if not self.queue:
            return None
        self.running[number] = self.queue.pop(0)
        return self.table.configs[self.running[number]]

    def on_complete(self, number: int, report: EpochMetrics) -> None:
        config = self.running.pop(number)
        if report.epoch < self.table.epochs:
            self.stopped.append(config)

    def on_error(self, number: int) -> None:
        del self.running[number]


class Sobol(Shuffled):
    """Sobol's sequence over the space, without replacement, after the common first configs."""

    def __init__(self, table: CurveTable, run: int) -> None:
        super().__init__(table, run)
        sequence = qmc.Sobol(SOBOL_DIMENSIONS, rng=np.random.default_rng(run))
        found = dict.fromkeys(self.queue[:NUM_INITIAL])
        for _ in range(4):
            for row in sequence.random(256):
                found[table.index(table.space.suggest(_Coordinates(row)))] = None
        self.queue = [*found, *(config for config in self.queue if config not in found)]


class _Coordinates:
    """Suggester from a point of the unit cube: each parameter takes the next coordinate."""

    def __init__(self, row: Sequence[float]) -> None:
        self.coordinates = list(row)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[int(self.coordinates.pop(0) * len(choices))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * int(self.coordinates.pop(0) * ((high - low) // step + 1))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise TypeError(f"{name} is continuous, and a table holds no grid of continuous values")


class Optuna:
    """An Optuna sampler in a separate study; every last epoch counts as final values, as in OptunaSearch."""

    def __init__(self, table: CurveTable, run: int, sampler: BaseSampler) -> None:
        self.space = table.space
        self.study = optuna.create_study(directions=list(self.space.objectives.values()), sampler=sampler)
        self.trials: dict[int, optuna.Trial] = {}
        for config in shuffled(table, run)[:NUM_INITIAL]:
            self.study.enqueue_trial(self.space.to_optuna(table.configs[config]))

    def suggest(self, number: int) -> Values | None:
        self.trials[number] = self.study.ask()
        return self.space.suggest(self.trials[number])

    def on_complete(self, number: int, report: EpochMetrics) -> None:
        self.study.tell(self.trials.pop(number), objectives.objective_vector(self.space, report.metrics))

    def on_prune(self, number: int) -> None:
        """Ends a trial as Optuna does after `TrialPruned`: without values."""
        self.study.tell(self.trials.pop(number), state=TrialState.PRUNED)

    def on_error(self, number: int) -> None:
        self.study.tell(self.trials.pop(number), state=TrialState.FAIL)


def shuffled(table: CurveTable, run: int) -> list[int]:
    """Returns the configs of a table in a random order, the same for all rivals of a run; of a large table, some."""
    if len(table.configs) > MAX_ORDERED:
        return random.Random(run).sample(range(len(table.configs)), MAX_ORDERED)
    return sorted(range(len(table.configs)), key=lambda config: uniform(run, "order", config))


MakeScheduler = Callable[[CurveTable, int], Rival]


def _full(sampler: Callable[[int], BaseSampler]) -> MakeScheduler:
    return lambda table, run: Rival(Optuna(table, run, sampler(run)), table.space)


RIVALS: dict[str, MakeScheduler] = {
    "random": _full(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    "random_unrepeated": lambda table, run: Rival(Shuffled(table, run), table.space),
    "sobol": lambda table, run: Rival(Sobol(table, run), table.space),
    "tpe": _full(lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True)),
    "nsga2": _full(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20)),
    "gp": _full(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "ray_optuna_asha": lambda table, run: Rival(
        Optuna(table, run, optuna.samplers.TPESampler(seed=run)), table.space, RayAsha(table.space.objectives)
    ),
    "optunahub_pruner": lambda table, run: Pruned(
        Optuna(table, run, optuna.samplers.TPESampler(seed=run, constant_liar=True)), table.space
    ),
    "scalarised_asha": lambda table, run: Rival(Shuffled(table, run), table.space, Scalarised(table.space, run)),
    "moasha_tpe": lambda table, run: Rival(
        Optuna(table, run, optuna.samplers.TPESampler(seed=run, constant_liar=True)),
        table.space,
        MultiObjective(table.space),
    ),
    "moasha_random": lambda table, run: Rival(Shuffled(table, run), table.space, MultiObjective(table.space)),
    "moasha_syne_tune": lambda table, run: Rival(Shuffled(table, run), table.space, SyneTune(table.space)),
}
"""Factories of the rivals by name, for a table and a run."""
