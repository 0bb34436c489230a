from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from search.algorithm.trial import Assignment
from search.simulation.simulator import Decision, SimulatedCluster, simulate, uniform
from tests.support.synthetic_curves import Synthetic, make_table
from trainers.epoch_metrics import EpochMetrics

PLAIN = SimulatedCluster(workers=1, speed_spread=0.0, start_delay=0.0, load_delay=0.0, deaths=0.0, equal_costs=True)


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


class Listed:
    """Trains the configs that it is given, and stops or pauses as a function of epoch says."""

    def __init__(
        self, table: Synthetic, configs: Iterable[int], decide: Callable[[int], Decision] = lambda epoch: "continue"
    ) -> None:
        self.table = table
        self.waiting = [Assignment(number, dict(table.configs[config]), 0) for number, config in enumerate(configs)]
        self.jobs = {job.number: job for job in self.waiting}
        self.decide = decide
        self.seen: dict[int, list[EpochMetrics]] = {job.number: [] for job in self.waiting}
        self.failed: dict[int, str] = {}

    def suggest(self) -> Assignment | None:
        return self.waiting.pop(0) if self.waiting else None

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        self.seen[number].append(report)
        if report.epoch == self.table.epochs:
            return "complete"
        outcome = self.decide(report.epoch)
        if outcome == "pause":
            self.waiting.append(replace(self.jobs[number], epoch=report.epoch))
        return outcome

    def on_error(self, number: int, kind: str, reason: str) -> None:
        self.failed[number] = kind


def healthy(table: Synthetic) -> list[int]:
    found = range(len(table.configs))
    return [index for index in found if all(table.curve(index, seed).failure is None for seed in (0, 1))]


def test_one_worker_takes_the_time_of_all_epochs(table: Synthetic) -> None:
    trace = simulate(table, Listed(table, healthy(table)[:3]), PLAIN, budget=1000)
    assert [event.time for event in trace.select("complete")] == [9.0, 18.0, 27.0]
    assert trace.spent == 27.0
    assert trace.busy_share == 1.0


def test_recorded_seconds_and_a_workers_speed_give_the_time(table: Synthetic) -> None:
    config = healthy(table)[0]
    world = replace(PLAIN, equal_costs=False, speed_spread=0.2)
    times = [simulate(table, Listed(table, [config]), world, 1000, run).events[-1].time for run in range(40)]
    recorded = sum(table.curve(config, 0).cpu_s)
    assert min(times) < recorded < max(times)
    assert sum(times) / len(times) == pytest.approx(recorded, rel=0.1)


def test_two_workers_train_at_the_same_time(table: Synthetic) -> None:
    trace = simulate(table, Listed(table, healthy(table)[:4]), replace(PLAIN, workers=2), budget=1000)
    assert [event.time for event in trace.select("complete")] == [9.0, 9.0, 18.0, 18.0]


def test_no_epoch_begins_that_the_budget_does_not_hold(table: Synthetic) -> None:
    policy = Listed(table, healthy(table)[:4])
    trace = simulate(table, policy, replace(PLAIN, workers=3), budget=16)
    assert trace.spent == 16.0
    assert sum(map(len, policy.seen.values())) == 16
    assert [event.state for event in trace.last().values()] == ["cut", "cut", "cut"]


def test_a_stopped_trial_makes_room_for_the_next(table: Synthetic) -> None:
    policy = Listed(table, healthy(table)[:5], lambda epoch: "stop" if epoch == 2 else "continue")
    trace = simulate(table, policy, PLAIN, budget=1000)
    assert [(event.time, event.epoch) for event in trace.select("stop")] == [(2.0 * n, 2) for n in range(1, 6)]


def test_a_paused_trial_goes_on_where_it_was_and_pays_for_loading(table: Synthetic) -> None:
    policy = Listed(table, healthy(table)[:2], lambda epoch: "pause" if epoch in (1, 3) else "continue")
    trace = simulate(table, policy, replace(PLAIN, load_delay=0.5), budget=1000)
    assert all([report.epoch for report in seen] == list(range(1, 10)) for seen in policy.seen.values())
    assert [event.epoch for event in trace.select("resume")] == [1, 1, 3, 3]
    assert trace.spent == 18.0
    assert trace.events[-1].time == 18.0 + 4 * 0.5


def test_a_training_that_fails_is_paid_up_to_there(table: Synthetic) -> None:
    failing = [index for index in range(len(table.configs)) if table.curve(index, 0).failure is not None]
    failing = [index for index in failing if table.curve(index, 1).failure is not None]
    for index in failing[:20]:
        policy = Listed(table, [index])
        trace = simulate(table, policy, PLAIN, budget=1000)
        curves = [table.curve(index, seed).failure for seed in (0, 1)]
        assert any(
            trace.spent == pytest.approx(failure[1]) and policy.failed == {0: failure[0]}
            for failure in curves
            if failure
        )


def test_a_further_seed_shows_another_curve(table: Synthetic) -> None:
    config = healthy(table)[0]
    policy = Listed(table, [config, config, config])
    policy.waiting[1] = replace(policy.waiting[1], seed_of=0)
    simulate(table, policy, PLAIN, budget=1000)
    assert policy.seen[0] == policy.seen[2] != policy.seen[1]


def test_every_policy_meets_the_same_curves_and_the_same_deaths(table: Synthetic) -> None:
    configs = healthy(table)[:12]
    world = SimulatedCluster(workers=4, deaths=0.05)
    one, other = Listed(table, configs), Listed(table, reversed(configs))
    first, second = (simulate(table, policy, world, 1000, run=3) for policy in (one, other))
    assert [one.seen[n] for n in range(12)] == [other.seen[11 - n] for n in range(12)]
    deaths = [Counter((event.config, event.epoch) for event in trace.select("death")) for trace in (first, second)]
    assert deaths[0] == deaths[1]
    assert deaths[0].total() > 0


def test_a_run_is_the_same_again_and_another_run_is_not(table: Synthetic) -> None:
    configs = healthy(table)[:12]
    traces = [simulate(table, Listed(table, configs), SimulatedCluster(workers=3), 1000, run) for run in (1, 1, 2)]
    assert traces[0] == traces[1]
    assert traces[0].events != traces[2].events


def test_an_epoch_in_which_a_process_dies_is_trained_again_and_paid_twice(table: Synthetic) -> None:
    policy = Listed(table, healthy(table)[:12])
    trace = simulate(table, policy, replace(PLAIN, deaths=0.05), budget=10_000)
    assert trace.select("death")
    assert all([report.epoch for report in seen] == list(range(1, 10)) for seen in policy.seen.values())
    assert 12 * 9 < trace.spent < 12 * 9 + len(trace.select("death"))
    assert trace.events[-1].time == pytest.approx(trace.spent)


def test_a_trial_whose_process_dies_again_and_again_is_killed(table: Synthetic) -> None:
    policy = Listed(table, healthy(table)[:3])
    trace = simulate(table, policy, replace(PLAIN, deaths=1e6), budget=1000)
    assert policy.failed == {0: "killed", 1: "killed", 2: "killed"}
    assert len(trace.select("death")) == 9


def test_delays_leave_workers_idle(table: Synthetic) -> None:
    trace = simulate(table, Listed(table, healthy(table)[:4]), replace(PLAIN, start_delay=1.0), budget=1000)
    assert trace.busy_share == pytest.approx(0.9)


def test_a_keyed_number_is_uniform_and_depends_on_each_part_of_its_key() -> None:
    numbers = [uniform(run, "x", config) for run in range(20) for config in range(50)]
    assert len(set(numbers)) == 1000
    assert sum(numbers) / 1000 == pytest.approx(0.5, abs=0.03)
    assert max(numbers) > 0.99
    assert min(numbers) < 0.01
