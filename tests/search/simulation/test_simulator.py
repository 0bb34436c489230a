"""Discrete-event simulation of searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from search.algorithm.trial import Assignment, Decision
from search.simulation.simulator import SimulatedCluster, simulate, uniform
from tests.support.synthetic_curves import Synthetic, make_table
from trainers.epoch_metrics import EpochMetrics

PLAIN = SimulatedCluster(workers=1, speed_spread=0.0, start_delay=0.0, load_delay=0.0, crash_rate=0.0, equal_costs=True)


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


class ListScheduler:
    """Trains listed configs, and decides by a function of the epoch."""

    def __init__(
        self, table: Synthetic, configs: Iterable[int], decide: Callable[[int], Decision] = lambda epoch: "continue"
    ) -> None:
        self.table = table
        self.queue = [Assignment(number, dict(table.configs[config]), 0) for number, config in enumerate(configs)]
        self.jobs = {job.number: job for job in self.queue}
        self.decide = decide
        self.reports: dict[int, list[EpochMetrics]] = {job.number: [] for job in self.queue}
        self.failed: dict[int, str] = {}

    def suggest(self) -> Assignment | None:
        return self.queue.pop(0) if self.queue else None

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        self.reports[number].append(report)
        if report.epoch == self.table.epochs:
            return "complete"
        outcome = self.decide(report.epoch)
        if outcome == "pause":
            self.queue.append(replace(self.jobs[number], epoch=report.epoch))
        return outcome

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        self.failed[number] = failure_class


def healthy(table: Synthetic) -> list[int]:
    found = range(len(table.configs))
    return [index for index in found if all(table.curve(index, seed).failure is None for seed in (0, 1))]


def test_one_worker_takes_the_time_of_all_epochs(table: Synthetic) -> None:
    trace = simulate(table, ListScheduler(table, healthy(table)[:3]), PLAIN, budget=1000)
    assert [event.time for event in trace.select("complete")] == [9.0, 18.0, 27.0]
    assert trace.spent == 27.0
    assert trace.busy_share == 1.0


def test_recorded_seconds_and_a_workers_speed_give_the_time(table: Synthetic) -> None:
    config = healthy(table)[0]
    cluster = replace(PLAIN, equal_costs=False, speed_spread=0.2)
    times = [simulate(table, ListScheduler(table, [config]), cluster, 1000, run).events[-1].time for run in range(40)]
    recorded = sum(table.curve(config, 0).cpu_s)
    assert min(times) < recorded < max(times)
    assert sum(times) / len(times) == pytest.approx(recorded, rel=0.1)


def test_two_workers_train_at_the_same_time(table: Synthetic) -> None:
    trace = simulate(table, ListScheduler(table, healthy(table)[:4]), replace(PLAIN, workers=2), budget=1000)
    assert [event.time for event in trace.select("complete")] == [9.0, 9.0, 18.0, 18.0]


def test_an_epoch_starts_only_if_the_budget_covers_it(table: Synthetic) -> None:
    scheduler = ListScheduler(table, healthy(table)[:4])
    trace = simulate(table, scheduler, replace(PLAIN, workers=3), budget=16)
    assert trace.spent == 16.0
    assert sum(map(len, scheduler.reports.values())) == 16
    assert [event.state for event in trace.last().values()] == ["cut", "cut", "cut"]


def test_a_stopped_trial_frees_its_worker(table: Synthetic) -> None:
    scheduler = ListScheduler(table, healthy(table)[:5], lambda epoch: "stop" if epoch == 2 else "continue")
    trace = simulate(table, scheduler, PLAIN, budget=1000)
    assert [(event.time, event.epoch) for event in trace.select("stop")] == [(2.0 * n, 2) for n in range(1, 6)]


def test_a_paused_trial_resumes_where_it_was_after_a_delay(table: Synthetic) -> None:
    scheduler = ListScheduler(table, healthy(table)[:2], lambda epoch: "pause" if epoch in (1, 3) else "continue")
    trace = simulate(table, scheduler, replace(PLAIN, load_delay=0.5), budget=1000)
    assert all([report.epoch for report in reports] == list(range(1, 10)) for reports in scheduler.reports.values())
    assert [event.epoch for event in trace.select("resume")] == [1, 1, 3, 3]
    assert trace.spent == 18.0
    assert trace.events[-1].time == 18.0 + 4 * 0.5


def test_a_training_that_fails_is_paid_up_to_there(table: Synthetic) -> None:
    failing = [index for index in range(len(table.configs)) if table.curve(index, 0).failure is not None]
    failing = [index for index in failing if table.curve(index, 1).failure is not None]
    for index in failing[:20]:
        scheduler = ListScheduler(table, [index])
        trace = simulate(table, scheduler, PLAIN, budget=1000)
        curves = [table.curve(index, seed).failure for seed in (0, 1)]
        assert any(
            trace.spent == pytest.approx(failure[1]) and scheduler.failed == {0: failure[0]}
            for failure in curves
            if failure
        )


def test_a_further_seed_shows_another_curve(table: Synthetic) -> None:
    config = healthy(table)[0]
    scheduler = ListScheduler(table, [config, config, config])
    scheduler.queue[1] = replace(scheduler.queue[1], seed_of=0)
    simulate(table, scheduler, PLAIN, budget=1000)
    assert scheduler.reports[0] == scheduler.reports[2] != scheduler.reports[1]


def test_all_schedulers_meet_the_same_curves_and_the_same_crashes(table: Synthetic) -> None:
    configs = healthy(table)[:12]
    cluster = SimulatedCluster(workers=4, crash_rate=0.05)
    one, other = ListScheduler(table, configs), ListScheduler(table, reversed(configs))
    first, second = (simulate(table, scheduler, cluster, 1000, run=3) for scheduler in (one, other))
    assert [one.reports[n] for n in range(12)] == [other.reports[11 - n] for n in range(12)]
    crashes = [Counter((event.config, event.epoch) for event in trace.select("crash")) for trace in (first, second)]
    assert crashes[0] == crashes[1]
    assert crashes[0].total() > 0


def test_the_same_run_repeats_exactly_and_another_run_differs(table: Synthetic) -> None:
    configs = healthy(table)[:12]
    traces = [
        simulate(table, ListScheduler(table, configs), SimulatedCluster(workers=3), 1000, run) for run in (1, 1, 2)
    ]
    assert traces[0] == traces[1]
    assert traces[0].events != traces[2].events


def test_an_epoch_in_which_a_process_crashes_is_retrained_and_paid_twice(table: Synthetic) -> None:
    scheduler = ListScheduler(table, healthy(table)[:12])
    trace = simulate(table, scheduler, replace(PLAIN, crash_rate=0.05), budget=10_000)
    assert trace.select("crash")
    assert all([report.epoch for report in reports] == list(range(1, 10)) for reports in scheduler.reports.values())
    assert 12 * 9 < trace.spent < 12 * 9 + len(trace.select("crash"))
    assert trace.events[-1].time == pytest.approx(trace.spent)


def test_a_trial_whose_process_crashes_too_often_is_killed(table: Synthetic) -> None:
    scheduler = ListScheduler(table, healthy(table)[:3])
    trace = simulate(table, scheduler, replace(PLAIN, crash_rate=1e6), budget=1000)
    assert scheduler.failed == {0: "killed", 1: "killed", 2: "killed"}
    assert len(trace.select("crash")) == 9


def test_delays_leave_workers_idle(table: Synthetic) -> None:
    trace = simulate(table, ListScheduler(table, healthy(table)[:4]), replace(PLAIN, start_delay=1.0), budget=1000)
    assert trace.busy_share == pytest.approx(0.9)


def test_a_keyed_number_is_uniform_and_depends_on_each_part_of_its_key() -> None:
    numbers = [uniform(run, "x", config) for run in range(20) for config in range(50)]
    assert len(set(numbers)) == 1000
    assert sum(numbers) / 1000 == pytest.approx(0.5, abs=0.03)
    assert max(numbers) > 0.99
    assert min(numbers) < 0.01
