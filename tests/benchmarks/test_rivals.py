"""Rivals as trial schedulers, compared with their libraries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.rivals import MAX_ORDERED, NUM_INITIAL, RIVALS, Pruned, Rival, shuffled
from search.algorithm.trial import Assignment, Decision
from search.simulation.simulator import SimulatedCluster, simulate
from tests.support.synthetic_curves import Synthetic, make_table
from trainers.epoch_metrics import EpochMetrics

QUICK = [name for name in RIVALS if name != "gp"]
CLUSTER = SimulatedCluster(workers=4)


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


def make(name: str, table: Synthetic, run: int = 0) -> Rival:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RIVALS[name](table, run)


@pytest.mark.parametrize("name", QUICK)
def test_a_rival_spends_its_budget_and_starts_like_all_others(name: str, table: Synthetic) -> None:
    trace = simulate(table, make(name, table), CLUSTER, budget=150)
    assert 140 < trace.spent <= 150
    assert trace.select("complete")
    first = simulate(table, make("random", table), CLUSTER, budget=150).select("start")[:NUM_INITIAL]
    assert [event.config for event in trace.select("start")[:NUM_INITIAL]] == [event.config for event in first]


@pytest.mark.parametrize("name", QUICK)
def test_the_decisions_of_a_rival_are_repeatable(name: str, table: Synthetic) -> None:
    traces = [simulate(table, make(name, table, run), CLUSTER, 90, run) for run in (5, 5, 6)]
    assert traces[0] == traces[1] != traces[2]


@pytest.mark.parametrize("name", ["random_unrepeated", "sobol"])
def test_without_replacement_every_config_is_trained_once(name: str, table: Synthetic) -> None:
    trace = simulate(table, make(name, table), CLUSTER, budget=1e6)
    assert sorted(event.config for event in trace.select("start")) == list(range(len(table.configs)))


def test_stopped_configs_are_restarted_once_all_were_started(table: Synthetic) -> None:
    trace = simulate(table, make("moasha_random", table), CLUSTER, budget=600)
    starts = trace.select("start")
    assert sorted(event.config for event in starts[: len(table.configs)]) == list(range(len(table.configs)))
    repeated = [event.config for event in starts[len(table.configs) :]]
    assert repeated
    assert not set(repeated) & {event.config for event in trace.select("fail")}


def test_full_fidelity_rivals_stop_nothing_and_the_others_do(table: Synthetic) -> None:
    for name in QUICK:
        stopped = simulate(table, make(name, table), CLUSTER, budget=90).select("stop")
        assert bool(stopped) == any(word in name for word in ("asha", "pruner")), name


def test_optunahubs_pruner_ends_a_trial_without_values_in_optunas_study(table: Synthetic) -> None:
    rival = make("optunahub_pruner", table)
    assert isinstance(rival, Pruned)
    trace = simulate(table, rival, CLUSTER, budget=150)
    trials = {trial.number: trial for trial in rival.optuna.study.trials}
    for event in trace.select("stop"):
        assert trials[event.trial].state == TrialState.PRUNED
        assert trials[event.trial].values is None
    for event in trace.select("complete"):
        assert trials[event.trial].state == TrialState.COMPLETE
    stopped = {event.epoch for event in trace.select("stop")}
    assert stopped - {1, 3}, "it also stops between the rungs"


def test_the_order_of_a_large_table_is_a_sample_without_repeats() -> None:
    class Large:
        configs = range(3 * MAX_ORDERED)

    first, again, other = (shuffled(Large(), run) for run in (1, 1, 2))  # type: ignore[arg-type]
    assert first == again != other
    assert len(set(first)) == len(first) == MAX_ORDERED


class RealRay:
    """Ray's classes, called as Tune's loop calls them."""

    def __init__(self, table: Synthetic, first: list[Mapping[str, Any]], seed: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        self.space = table.space
        objectives = self.space.objectives
        self.search = OptunaSearch(
            self.space.suggest,
            metric=list(objectives),
            mode=[goal[:3] for goal in objectives.values()],
            points_to_evaluate=[self.space.to_optuna(values) for values in first],
            seed=seed,
        )
        self.scheduler = AsyncHyperBandScheduler(
            metric="accuracy", mode="max", max_t=table.epochs, grace_period=1, reduction_factor=3
        )
        self.trials: list[Any] = []

    def suggest(self) -> Assignment | None:
        number = len(self.trials)
        self.trials.append(type("Trial", (), {"trial_id": str(number)})())
        values = self.search.suggest(str(number))
        self.scheduler.on_trial_add(None, self.trials[number])
        return Assignment(number, {key: values[key] for key in self.space.searched_keys() if key in values}, 0)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        result = {**report.metrics, "training_iteration": report.epoch}
        decision = self.scheduler.on_trial_result(None, self.trials[number], result)
        self.search.on_trial_result(str(number), result)
        if decision == "CONTINUE":
            return "continue"
        self.search.on_trial_complete(str(number), result)
        return "complete" if report.epoch == 9 else "stop"

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        self.scheduler.on_trial_remove(None, self.trials[number])
        self.search.on_trial_complete(str(number), error=True)


@pytest.mark.slow
@pytest.mark.parametrize("run", [0, 1, 2])
def test_the_rival_for_ray_decides_as_its_real_classes(run: int, table: Synthetic) -> None:
    replay = make("ray_optuna_asha", table, run)
    first = [event.config for event in simulate(table, make("random", table, run), CLUSTER, 270, run).select("start")]
    real = RealRay(table, [table.configs[config] for config in first[:NUM_INITIAL]], run)
    traces = [simulate(table, scheduler, CLUSTER, 600, run) for scheduler in (replay, real)]
    assert len(traces[0].select("start")) > 100
    assert traces[0] == traces[1]
