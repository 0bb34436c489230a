"""Spending of budgets in trials, epochs or hours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from search.algorithm.budget import Remaining
from search.algorithm.scheduler import TrialScheduler
from search.simulate import with_overrides
from search.simulation.simulator import SimulatedCluster, simulate
from tests.support import synthetic_curves
from trainers.epoch_metrics import EpochMetrics

New = Callable[..., TrialScheduler]
Play = Callable[..., list[str]]

DISCRETE = "space={tau: {choice: [1.2, 1.6, 2.0]}, step: {choice: [1, 2]}}"
PROMOTE = "scheduler.mode=promote"


@pytest.mark.parametrize("mode", ["stop", "promote"])
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_a_budget_in_epochs_is_respected_and_ends_in_full_trainings(
    new_scheduler: New, play: Play, by_tau: Any, mode: str, workers: int
) -> None:
    scheduler = new_scheduler("budget={epochs: 9, epochs_total: 120}", f"scheduler.mode={mode}")
    play(scheduler, by_tau, workers)
    assert scheduler.budget.epochs_spent <= 120 + (0 if mode == "promote" else 9 * workers)
    assert scheduler.budget.epochs_spent > 120 - 9
    assert sum(trial.state == "complete" for trial in scheduler.trials.values()) >= 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("workers", [1, 4, 8, 32])
@pytest.mark.parametrize(
    "budget",
    [
        ("budget={trials: 2, epochs: 9}",),
        ("budget={trials: 6, epochs: 9}",),
        ("budget={trials: 40, epochs: 27}",),
        ("budget={epochs_total: 27, epochs: 27}",),
        ("budget={epochs_total: 270, epochs: 27}", "scheduler.brackets=2"),
        ("budget={epochs_total: 60, epochs: 27}", "scheduler.mode=stop"),
        ("budget={epochs_total: 60, epochs: 27}", "scheduler.mode=stop", "scheduler.brackets=3"),
    ],
)
def test_some_trial_is_trained_in_full_within_the_budget_with_any_number_of_workers(
    new_scheduler: New, play: Play, by_tau: Any, budget: tuple[str, ...], workers: int, sampler: str
) -> None:
    scheduler = new_scheduler(PROMOTE, f"sampler.name={sampler}", *budget)
    play(scheduler, by_tau, workers)
    assert any(trial.state == "complete" for trial in scheduler.trials.values())
    total = scheduler.space.budget.epochs_total
    assert total is None or scheduler.budget.epochs_spent <= total


def test_many_workers_end_together() -> None:
    table, workers = synthetic_curves.make_table(16), 32
    space = with_overrides(table.space, ["sampler.name=random", f"budget.epochs_total={3 * workers * table.epochs}"])
    cluster = SimulatedCluster(workers=workers, speed_spread=0.0, crash_rate=0.0, equal_costs=True)
    scheduler = TrialScheduler(space, space.feasible_config)
    trace = simulate(table, scheduler, cluster, 3 * workers * table.epochs)
    assert trace.busy_share > 0.9  # without a limit on the last increments: 0.78
    assert len(trace.select("complete")) > workers


@pytest.mark.parametrize("workers", [1, 8, 30])
@pytest.mark.parametrize("keys", [("scheduler.name=none",), (DISCRETE, PROMOTE)])
def test_a_budget_is_spent_if_no_new_trial_can_start_with_any_number_of_idle_workers(
    new_scheduler: New, play: Play, by_tau: Any, keys: tuple[str, ...], workers: int
) -> None:
    scheduler = new_scheduler(*keys, "budget={epochs_total: 153, epochs: 9}")
    play(scheduler, by_tau, workers)
    assert scheduler.budget.epochs_spent > 153 - 9


@pytest.mark.parametrize("workers", [1, 8])
def test_of_trials_that_are_all_at_chance_few_are_trained_in_full(
    new_scheduler: New, play: Play, at_chance: Any, workers: int
) -> None:
    scheduler = new_scheduler(PROMOTE, "budget={epochs: 27, trials: 24}")
    play(scheduler, at_chance, workers)
    assert scheduler.budget.num_completed == 0
    assert 1 <= sum(trial.epoch == 27 for trial in scheduler.trials.values()) <= 3


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("budget", ["{epochs: 9, trials: 40}", "{epochs: 9, epochs_total: 300}"])
def test_a_search_ends_without_a_paused_trial_of_a_first_front(
    new_scheduler: New, play: Play, epoch: Callable[..., EpochMetrics], budget: str, workers: int
) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        tau, step = config["tau"], config["step"]
        return epoch(number, 50.0 + 10 * step + 20 * math.sin(9 * tau) + number, 0.05 * step + 0.02 * tau, step)

    scheduler = new_scheduler(PROMOTE, f"budget={budget}")
    play(scheduler, report, workers)
    paused = {(trial.number, trial.epoch) for trial in scheduler.trials.values() if trial.state == "paused"}
    first = {key for key, rank in scheduler.brackets.ranks().items() if rank == 0}
    left = scheduler.budget.remaining_epochs()
    assert paused
    assert not any(9 - at <= left for _, at in paused & first)
    assert scheduler.budget.num_completed >= 5


@pytest.mark.parametrize("budget", ["{epochs: 9, trials: 1}", "{epochs: 9, trials: 2}", "{epochs: 9, epochs_total: 9}"])
def test_a_trial_that_starts_at_chance_is_trained_with_the_epochs_reserved_for_it(
    new_scheduler: New, play: Play, by_tau: Any, at_chance: Any, budget: str
) -> None:
    def late(config: dict[str, Any], number: int) -> EpochMetrics:
        report: EpochMetrics = (by_tau if number > 1 else at_chance)(config, number)
        return report

    scheduler = new_scheduler(PROMOTE, f"budget={budget}")
    play(scheduler, late)
    assert scheduler.budget.num_completed >= 1


def test_hours_are_used_even_if_the_pace_of_a_slow_start_leaves_no_time_for_any_trial(
    new_scheduler: New, play: Play, by_tau: Any
) -> None:
    clock = 0.3

    def later(config: dict[str, Any], number: int) -> EpochMetrics:
        nonlocal clock
        clock += 0.02
        found: EpochMetrics = by_tau(config, number)
        return found

    scheduler = new_scheduler(PROMOTE, "budget={epochs: 9, hours: 1}", hours=lambda: clock)
    play(scheduler, later)
    assert 1.0 <= clock < 1.2
    assert scheduler.budget.num_completed >= 2
    assert scheduler.is_finished()


def test_refusals_lead_to_no_bracket_that_the_budget_does_not_cover(
    new_scheduler: New, play: Play, by_tau: Any
) -> None:
    space = "space={num_heads: {choice: [2, 3, 4, 5, 7, 9, 11]}, tau: {uniform: [1.1, 3.0]}}"
    for seed in range(6):
        keys = [space, "scheduler.brackets=3", "budget={epochs: 27, epochs_total: 60}", "sampler.name=random"]
        scheduler = new_scheduler(PROMOTE, *keys, f"seed={seed}")
        play(scheduler, lambda config, number: by_tau({"step": 2, **config}, number), workers=8)
        assert scheduler.budget.epochs_spent <= 60


@pytest.mark.parametrize(
    ("epoch", "remaining", "is_affordable"),
    [
        (0, Remaining(1, 0, 0), True),
        (0, Remaining(0, 0, 9), False),
        (1, Remaining(2, 0, 2), True),
        (1, Remaining(1, 0, 9), False),
        (1, Remaining(9, 0, 1), False),
        (1, Remaining(8, 9, 9), True),
        (1, Remaining(7, 9, 9), False),
        (1, Remaining(7, 5, 9), True),
    ],
)
def test_a_trial_is_affordable_up_to_its_next_rung_if_some_trial_can_then_be_completed(
    new_scheduler: New, epoch: int, remaining: Remaining, is_affordable: bool
) -> None:
    assert new_scheduler().budget.can_afford(0, epoch, remaining) == is_affordable


def test_running_trials_are_counted_as_spent_up_to_their_next_rung(new_scheduler: New, by_tau: Any) -> None:
    scheduler = new_scheduler("budget={epochs: 9, epochs_total: 100}")
    assert scheduler.budget.remaining() == Remaining(100, 9, float("inf"))
    for _ in range(3):
        assert scheduler.suggest() is not None
    assert scheduler.budget.remaining() == Remaining(97, 8, float("inf"))
    assert scheduler.budget.remaining(scheduler.trials[0], 1).epochs == 97
    scheduler.on_result(0, by_tau(scheduler.trials[0].config, 1))
    assert (scheduler.budget.epochs_spent, scheduler.budget.peak_parallel) == (1, 3)
    assert scheduler.budget.remaining().epochs == 100 - 1 - 2 - 1 - 1
