"""Forecast of a search: entries of the stages, remaining epochs and time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from search.algorithm.forecast import (
    SearchPlan,
    TrialProgress,
    expected_entries,
    expected_epochs,
    search_plan,
    seconds_left,
    stored_plan,
)
from search.algorithm.scheduler import TrialScheduler
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

FULL = SearchPlan(levels=(0, 9), mode="none", trials=10)


def complete(seconds: float = 18.0) -> TrialProgress:
    return TrialProgress(9.0, seconds, "complete")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (["scheduler.name=none"], [12]),
        (["scheduler.mode=stop"], [12, 2 + sum(math.ceil(k / 3) / k for k in range(3, 13))]),
        (["scheduler.mode=promote", "sampler.name=random"], [12, 12 * 3**-0.8 + 3]),
    ],
)
def test_trials_expected_in_the_first_two_stages(
    read_space: Callable[..., Space], how: list[str], expected: list[float]
) -> None:
    plan = search_plan(read_space(*how, "sampler.name=random").settings)
    assert expected_entries(plan, 12)[:2] == pytest.approx(expected)


@pytest.mark.parametrize("how", [["sampler.name=random"], [], ["scheduler.reduction_factor=2"], ["budget.epochs=27"]])
def test_the_expected_epochs_are_near_those_of_a_search(
    read_space: Callable[..., Space], epoch: Callable[..., EpochMetrics], how: list[str]
) -> None:
    space = read_space("scheduler.mode=promote", "budget.trials=40", *how)
    scheduler, full = TrialScheduler(space, space.feasible_config), space.budget.epochs

    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        noise = 3.0 * math.sin(1e4 * config["tau"] + number)
        accuracy = 90.0 - 50.0 * math.exp(-3.0 * number / full) - 9.0 * (config["tau"] - 2.0) ** 2 + noise
        return epoch(number, accuracy, 0.1 * config["step"] + 0.01 * config["tau"], config["step"])

    while (job := scheduler.suggest()) is not None:
        for number in range(job.epoch + 1, full + 1):
            if scheduler.on_result(job.number, report(scheduler.trials[job.number].config, number)) != "continue":
                break
    assert expected_epochs(search_plan(space.settings), 40) == pytest.approx(scheduler.budget.epochs_spent, rel=0.35)


def test_trials_that_are_trained_in_full_take_what_the_first_ones_took() -> None:
    assert seconds_left(FULL, [complete()] * 4, 36.0, 2) == pytest.approx(3 * 18.0)


def test_a_trial_that_runs_counts_with_the_part_that_it_has_trained() -> None:
    running = TrialProgress(4.5, 9.0, "running")
    assert seconds_left(FULL, [*[complete()] * 9, running], 81.0, 2) == pytest.approx(9.0)


def test_a_first_epoch_that_takes_long_moves_the_forecast() -> None:
    def left(seconds: float) -> float:
        found = seconds_left(FULL, [*[complete()] * 9, TrialProgress(0.0, seconds, "running")], 100.0, 1)
        assert found is not None
        return found

    assert left(1.0) < left(10.0) < left(100.0)


def test_an_expensive_trial_that_runs_takes_its_own_time() -> None:
    cheap = seconds_left(FULL, [*[complete()] * 9, TrialProgress(3.0, 6.0, "running")], 60.0, 1)
    expensive = seconds_left(FULL, [*[complete()] * 9, TrialProgress(3.0, 60.0, "running")], 60.0, 1)
    assert (cheap, expensive) == (pytest.approx(12.0), pytest.approx(120.0))


def test_failures_shorten_what_is_expected_of_new_trials() -> None:
    failed = TrialProgress(1.0, 2.0, "failed")
    with_failures = seconds_left(FULL, [complete(), complete(), failed, failed, failed], 42.0, 1)
    without = seconds_left(FULL, [complete()] * 5, 90.0, 1)
    assert with_failures is not None
    assert without is not None
    assert with_failures < 0.8 * without


def test_a_budget_in_epochs_and_one_in_hours_end_the_forecast() -> None:
    epochs = SearchPlan(levels=(0, 9), mode="none", epochs_total=45)
    assert seconds_left(epochs, [complete()] * 4, 72.0, 1) == pytest.approx(18.0)
    hours = SearchPlan(levels=(0, 9), mode="none", hours=0.01)  # 36 s
    assert seconds_left(hours, [complete()], 18.0, 1) == pytest.approx(18.0)
    assert seconds_left(hours, [], 6.0, 1) == pytest.approx(30.0)


def test_nothing_is_forecast_before_the_first_epoch_without_sampled_times() -> None:
    assert seconds_left(FULL, [TrialProgress(0.0, 5.0, "running")], 5.0, 1) is None
    assert seconds_left(FULL, [], 0.0, 2, [2.0]) == pytest.approx(5 * 18.0)


def test_fewer_survivors_than_expected_shorten_the_forecast() -> None:
    plan = SearchPlan(levels=(0, 1, 9), mode="stop", trials=40)
    stopped, survivor = TrialProgress(1.0, 2.0, "stopped"), complete()
    few = seconds_left(plan, [stopped] * 18 + [survivor] * 2, 72.0, 2)
    many = seconds_left(plan, [stopped] * 10 + [survivor] * 10, 200.0, 2)
    assert few is not None
    assert many is not None
    assert few < 0.7 * many


def test_no_paused_trial_is_expected_to_go_on_while_a_slot_is_idle_at_the_end() -> None:
    plan = SearchPlan(levels=(0, 3, 9), mode="promote", trials=6)
    trials = [*[TrialProgress(3.0, 6.0, "paused")] * 4, complete(), TrialProgress(8.0, 16.0, "running")]
    assert seconds_left(plan, trials, 60.0, 2) == pytest.approx(2.0)
    assert (seconds_left(plan, trials, 60.0, 1) or 0.0) > 4.0


def test_further_seeds_count() -> None:
    plan = SearchPlan(levels=(0, 9), mode="none", trials=2, seeds=3)
    assert seconds_left(plan, [complete()], 18.0, 1) == pytest.approx(5 * 18.0, rel=0.3)


def test_a_stored_space_that_todays_keys_cannot_express_has_no_plan(read_space: Callable[..., Space]) -> None:
    raw = dict(read_space().raw)
    assert stored_plan(raw) == search_plan(read_space().settings)
    assert stored_plan({**raw, "sampler": {"name": "of an earlier version"}}) is None
