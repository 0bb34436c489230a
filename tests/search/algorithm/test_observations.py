"""Observations of a sampler: the trials and their values."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from search.algorithm import moasha, observations, samplers
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Suggestion, Trial
from search.space.objectives import objective_vector
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

Read = Callable[..., Space]


def test_a_sampler_observes_one_rung_only_and_the_running_trials(
    new_scheduler: Callable[..., TrialScheduler], epoch: Callable[..., EpochMetrics]
) -> None:
    scheduler = new_scheduler("budget.trials=40")
    for _ in range(12):
        job = scheduler.suggest()
        assert job is not None
        scheduler.on_result(job.number, epoch(1, 40.0 + 20 * job.values["tau"], 0.1))
    assert scheduler.suggest() is not None
    observed = observations.for_sampler(scheduler.space, scheduler.trials.values())
    first_rung = scheduler.brackets.first.rungs[1].points
    assert [one.point[0] for one in observed if one.point is not None] == [
        scheduler.trials[number].epochs[1]["accuracy"] for number in sorted(first_rung)
    ]
    assert sum(one.point is None for one in observed) == 1


def complete_trials(space: Space, count: int) -> list[Trial]:
    rng = random.Random(0)
    trials = []
    for number in range(count):
        metrics = {"accuracy": rng.uniform(20, 90), "spike_rate": rng.uniform(0.01, 0.3)}
        suggestion = samplers.as_suggestion(space, {"tau": 2.0, "step": 1})
        trials.append(Trial(number, suggestion, {}, state="complete", epochs={1: metrics}))
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_a_slow_sampler_observes_the_best_and_some_of_the_other_trials(read_space: Read, sampler: str) -> None:
    space = read_space(f"sampler.name={sampler}", "scheduler.name=none", "budget={trials: 1000, epochs: 1}")
    trials = complete_trials(space, 700)
    running = Trial(700, samplers.as_suggestion(space, {"tau": 1.5, "step": 2}), {})
    observed = observations.for_sampler(space, [*trials, running])
    points = {trial.number: objective_vector(space, trial.epochs[1], minimise=True) for trial in trials}
    shown = [one.point for one in observed if one.point is not None]
    assert sum(one.point is None for one in observed) == 1
    assert len(shown) == (700 if sampler == "nsga2" else observations.MAX_OBSERVATIONS)
    for number in moasha.best(points, 25):
        assert objective_vector(space, trials[number].epochs[1]) in shown
    positions = [n for n, trial in enumerate(trials) if objective_vector(space, trial.epochs[1]) in shown]
    assert all(sum(start <= n < start + 100 for n in positions) >= 20 for start in range(0, 700, 100))


def test_a_failed_config_has_the_worst_values_and_violates_health_unless_the_machine_failed(read_space: Read) -> None:
    space = read_space("scheduler.name=none", "budget={trials: 9, epochs: 1}", "constraints={accuracy: {min: 50}}")
    trials = complete_trials(space, 12)
    for failure_class in ("diverged", "infeasible", "killed"):
        suggestion = Suggestion({"tau": 1.5, "step": 2}, {}, {})
        trials.append(Trial(len(trials), suggestion, {}, "failed", failure_class, "reason"))
    observed = observations.for_sampler(space, trials)
    accuracy, spike_rate = zip(*(one.point for one in observed[:12] if one.point is not None), strict=True)
    assert [list(one.point or ()) for one in observed[12:]] == [[min(accuracy), max(spike_rate)]] * 2
    assert [one.violations for one in observed[12:]] == [{"accuracy": 1.0, "health": 1.0}] * 2
    assert all(one.violations["health"] == 0.0 for one in observed[:12])


def test_the_highest_rung_with_enough_points_is_observed(read_space: Read) -> None:
    space = read_space()
    trials = complete_trials(space, 12)
    for trial in trials[: observations.MIN_POINTS]:
        trial.epochs[3] = {"accuracy": 99.0, "spike_rate": 0.1}
    repeat = Trial(
        12, trials[0].suggestion, {}, "complete", epochs={3: {"accuracy": 1.0, "spike_rate": 1.0}}, seed_of=0
    )
    observed = observations.for_sampler(space, [*trials, repeat])
    assert [one.point for one in observed] == [[99.0, 0.1]] * observations.MIN_POINTS
