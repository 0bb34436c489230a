"""Simulated searches of a benchmark, and its ranking of configs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.simulations import (
    SimulationTask,
    changed_constants,
    load,
    make_scheduler,
    missed,
    ranked,
    recipes,
    run_task,
)
from config.errors import ConfigError
from search.algorithm import observations
from search.simulation.evaluation import Evaluator
from search.simulation.simulator import Event, EventType, SimulatedCluster, Trace, simulate
from tests.support.synthetic_curves import EndTable


def test_missed_members_of_the_front_have_their_last_state() -> None:
    ends = [[(90.0, 0.5)], [(80.0, 0.2)], [(70.0, 0.1)], [(60.0, 0.05)], [(30.0, 0.9)]]
    events: list[tuple[int, EventType, float]] = [(0, "complete", 1.0), (1, "stop", 2.0), (2, "pause", 3.0)]
    trace = Trace(1, [Event(spent, spent, config, config, 1, state) for config, state, spent in events])
    assert missed(Evaluator(EndTable(ends)), trace) == {1: "stop 1", 2: "pause 1", 3: "not started"}


def test_configs_are_ranked_by_front_and_by_contribution() -> None:
    table = EndTable([[(30.0, 0.9)], [(90.0, 0.5)], [(80.0, 0.01)], [(89.0, 0.49)], [(20.0, 1.0)]])
    assert ranked(Evaluator(table)) == [2, 1, 3, 0, 4]


def test_recipes_are_three_of_the_best_and_of_the_worst_tenth() -> None:
    _, evaluator = load("synthetic", "spike_rate")
    configs = ranked(evaluator)
    tenth = len(configs) // 10
    for is_good, pool in ((True, configs[:tenth]), (False, configs[-tenth:])):
        chosen = recipes(evaluator, is_good)
        assert len(set(chosen)) == 3
        assert set(chosen) <= set(pool)
        assert chosen == recipes(evaluator, is_good)


def test_recipes_run_first() -> None:
    task = SimulationTask("synthetic", "spike_rate", "ours_good_recipes", 1, 0, 3)
    table, evaluator = load(task.table, task.cost)
    trace = simulate(table, make_scheduler(task, table, evaluator), SimulatedCluster(workers=1), 3 * 27)
    assert {event.config for event in trace.select("start")[:3]} == set(recipes(evaluator, True))


@pytest.mark.parametrize("method", ["ours", "random"])
def test_a_simulated_search_is_repeatable(method: str) -> None:
    task = SimulationTask("synthetic", "synops", method, 4, 3, 6)
    first, second = (replace(run_task(task), cpu_s=0.0) for _ in range(2))
    assert first == second
    assert first.spent <= 6 * 27
    assert sum(first.epochs_by_outcome.values()) <= first.spent
    assert first.curve[0] == (0.0, 0.0)
    assert first.curve[-1][1] > 0.0


def test_overrides_of_a_task_change_its_search() -> None:
    task = SimulationTask("synthetic/size_100/0", "", "ours", 2, 0, 9)
    full = run_task(replace(task, overrides=("scheduler.name=none", "search.algorithm.observations.MIN_POINTS=3")))
    assert full.epochs_by_outcome.keys() <= {"complete", "cut"}
    assert run_task(task).epochs_by_outcome.keys() > {"complete"}


def test_constants_change_for_a_while() -> None:
    before = observations.MIN_POINTS
    with changed_constants(["search.algorithm.observations.MIN_POINTS=77", "sampler.name=random"]):
        assert observations.MIN_POINTS == 77
    assert before == observations.MIN_POINTS


@pytest.mark.parametrize(
    "override", ["search.algorithm.observations.NONE=1", "search.algorithm.none.A=1", "search.algorithm.rungs.ETA=x"]
)
def test_a_constant_that_does_not_exist_or_is_no_literal_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="must be a constant and a Python literal"), changed_constants([override]):
        pass
