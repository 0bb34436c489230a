"""What people would use instead, as policies for the simulator: each proposes and stops as its library does.

Optuna's samplers, random search among them, may suggest a config again and pay for it again, as they do in a space of
choices. `random_unrepeated`, Sobol and those that draw at random for ASHA take each config of the grid once, which
favours them: on a small table they end by having seen it all. All start from the same ten random configs, see the same
curves, and are compared in the same rungs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from scipy.stats import qmc

from results import pareto
from search.algorithm import moasha
from search.algorithm.trial import Assignment
from search.simulation.evaluation import CurveTable
from search.simulation.simulator import Decision, uniform
from search.space import objectives
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

ETA = 3
FIRST = 10
"""Random configs that every rival starts with, the same in a repeat."""
SOBOL_DIMENSIONS = 32

Values = Mapping[str, Any]


class Proposer(Protocol):
    """Which config comes next."""

    def next(self, number: int) -> Values | None: ...

    def tell(self, number: int, report: EpochMetrics) -> None:
        """Takes the last epoch of a trial, whether it was trained in full or stopped."""

    def fail(self, number: int) -> None: ...


class Rule(Protocol):
    """Which trials go on, where `rung` holds what was measured at an epoch before, the trial itself last."""

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool: ...


class Rival:
    """A proposer and a rule, as one policy; without a rule all trials are trained in full."""

    def __init__(self, proposer: Proposer, space: Space, rule: Rule | None = None) -> None:
        self.proposer, self.rule = proposer, rule
        self.epochs = space.budget.epochs
        self.rungs: dict[int, dict[int, EpochMetrics]] = {level: {} for level in space.rung_epochs()}
        self.count = 0

    def suggest(self) -> Assignment | None:
        values = self.proposer.next(self.count)
        if values is None:
            return None
        self.count += 1
        return Assignment(self.count - 1, dict(values), 0)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        if report.epoch == self.epochs:
            self.proposer.tell(number, report)
            return "complete"
        if self.rule is None or report.epoch not in self.rungs:
            return "continue"
        rung = self.rungs[report.epoch]
        rung[number] = report
        if self.rule(rung, number):
            return "continue"
        self.proposer.tell(number, report)
        return "stop"

    def on_error(self, number: int, kind: str, reason: str) -> None:
        for rung in self.rungs.values():
            rung.pop(number, None)
        self.proposer.fail(number)


class Shuffled:
    """Random search without replacement. When all configs were started, those that were stopped come again."""

    def __init__(self, table: CurveTable, run: int) -> None:
        self.table = table
        self.left = order(table, run)
        self.running: dict[int, int] = {}
        self.again: list[int] = []

    def next(self, number: int) -> Values | None:
        if not self.left:
            self.left, self.again = self.again, []
        if not self.left:
            return None
        self.running[number] = self.left.pop(0)
        return self.table.configs[self.running[number]]

    def tell(self, number: int, report: EpochMetrics) -> None:
        config = self.running.pop(number)
        if report.epoch < self.table.epochs:
            self.again.append(config)

    def fail(self, number: int) -> None:
        del self.running[number]


class Sobol(Shuffled):
    """Sobol's sequence over the space, without replacement, after the common first configs."""

    def __init__(self, table: CurveTable, run: int) -> None:
        super().__init__(table, run)
        sequence = qmc.Sobol(SOBOL_DIMENSIONS, rng=np.random.default_rng(run))
        found = dict.fromkeys(self.left[:FIRST])
        for _ in range(4):
            for row in sequence.random(256):
                found[table.index(table.space.suggest(_Coordinates(row)))] = None
        self.left = [*found, *(config for config in self.left if config not in found)]


class _Coordinates:
    """A point of the unit cube as values: each parameter takes the next coordinate."""

    def __init__(self, row: Sequence[float]) -> None:
        self.rest = list(row)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[int(self.rest.pop(0) * len(choices))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * int(self.rest.pop(0) * ((high - low) // step + 1))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise TypeError(f"{name} is real, and a table holds no grid of real values")


class Optuna:
    """An Optuna sampler in a study of its own; told every last epoch as final values, as OptunaSearch does."""

    def __init__(self, table: CurveTable, run: int, sampler: BaseSampler) -> None:
        self.space = table.space
        self.study = optuna.create_study(directions=list(self.space.objectives.values()), sampler=sampler)
        self.trials: dict[int, optuna.Trial] = {}
        for config in order(table, run)[:FIRST]:
            self.study.enqueue_trial(self.space.to_optuna(table.configs[config]))

    def next(self, number: int) -> Values | None:
        self.trials[number] = self.study.ask()
        return self.space.suggest(self.trials[number])

    def tell(self, number: int, report: EpochMetrics) -> None:
        self.study.tell(self.trials.pop(number), objectives.point(self.space, report.metrics))

    def fail(self, number: int) -> None:
        self.study.tell(self.trials.pop(number), state=TrialState.FAIL)


def order(table: CurveTable, run: int) -> list[int]:
    """Returns the configs of a table in a random order, the same for all that begin with it in a run."""
    return sorted(range(len(table.configs)), key=lambda config: uniform(run, "order", config))


class RayAsha:
    """Ray's AsyncHyperBandScheduler with one bracket: stops what is below a percentile of those that came before."""

    def __init__(self, metric: str = "accuracy") -> None:
        self.metric = metric

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        before = [report.metrics[self.metric] for other, report in rung.items() if other != number]
        cutoff = np.nanpercentile(before, (1 - 1 / ETA) * 100) if before else -np.inf
        return bool(rung[number].metrics[self.metric] >= cutoff)


class MultiObjective:
    """MO-ASHA done right: among the best third by fronts and epsilon-net."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def points(self, rung: Mapping[int, EpochMetrics]) -> dict[int, list[float]]:
        return {number: objectives.point(self.space, report.metrics, minimise=True) for number, report in rung.items()}

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        return moasha.survives(self.points(rung), number, ETA)


class Scalarised(MultiObjective):
    """ASHA on one number: an augmented Chebyshev of the scaled objectives, with random weights for each trial."""

    def __init__(self, space: Space, run: int) -> None:
        super().__init__(space)
        self.run = run

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        if len(rung) < ETA:
            return True
        exponential = [-math.log(uniform(self.run, "weight", number, key)) for key in self.space.objectives]
        weighted = pareto.scaled(list(self.points(rung).values())) * (np.array(exponential) / sum(exponential))
        scores = dict(zip(rung, weighted.max(axis=1) + 0.05 * weighted.sum(axis=1), strict=True))
        better = sum((score, other) < (scores[number], number) for other, score in scores.items())
        return better < math.ceil(len(rung) / ETA)


class SyneTune(MultiObjective):
    """MO-ASHA as Syne Tune publishes it: an order of positions, best first, is read as each position's priority.

    Within a front the epsilon-net's ranks are in turn read as an order, and distances are not scaled.
    """

    def __call__(self, rung: Mapping[int, EpochMetrics], number: int) -> bool:
        if len(rung) < 2:
            return True
        points = list(self.points(rung).values())  # the trial is the last
        listed: list[int] = []
        for front in pareto.non_dominated_sort(points):
            net = pareto.epsilon_net([points[position] for position in front], len(front))
            rank = {position: place for place, position in enumerate(net)}
            listed += [front[rank[place]] for place in range(len(front))]
        return bool(listed[-1] <= len(points) / ETA)


Make = Callable[[CurveTable, int], Rival]


def _full(sampler: Callable[[int], BaseSampler]) -> Make:
    return lambda table, run: Rival(Optuna(table, run, sampler(run)), table.space)


RIVALS: dict[str, Make] = {
    "random": _full(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    "random_unrepeated": lambda table, run: Rival(Shuffled(table, run), table.space),
    "sobol": lambda table, run: Rival(Sobol(table, run), table.space),
    "tpe": _full(lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True)),
    "nsga2": _full(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20)),
    "gp": _full(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "ray_optuna_asha": lambda table, run: Rival(
        Optuna(table, run, optuna.samplers.TPESampler(seed=run)), table.space, RayAsha()
    ),
    "scalarised_asha": lambda table, run: Rival(Shuffled(table, run), table.space, Scalarised(table.space, run)),
    "moasha_random": lambda table, run: Rival(Shuffled(table, run), table.space, MultiObjective(table.space)),
    "moasha_syne_tune": lambda table, run: Rival(Shuffled(table, run), table.space, SyneTune(table.space)),
}
"""By name: how a rival is made for a table and a run."""
