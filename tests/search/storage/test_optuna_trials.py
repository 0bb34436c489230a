"""Trials in Optuna's database: states, values, constraints and failures."""

from __future__ import annotations

from collections.abc import Callable

import optuna

from search.storage.study import Study
from tests.search.conftest import run_to_the_end, score
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def test_stopped_trials_are_pruned_and_full_ones_complete_with_their_last_values(
    open_study: Open, epoch: Epoch
) -> None:
    study = open_study()
    run_to_the_end(study, epoch, score)
    for trial in study.optuna.trials:
        reported = sorted(key for key in trial.user_attrs if key.startswith("epoch_"))
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert len(reported) == 9
            last = trial.user_attrs[reported[-1]]["metrics"]
            assert trial.values == [last["accuracy"], last["spike_rate"]]
        else:
            assert trial.state == optuna.trial.TrialState.PRUNED
            assert len(reported) in (1, 3)


def test_infeasible_configs_are_stored_but_not_counted(open_study: Open, epoch: Epoch) -> None:
    study = open_study("space.num_heads={choice: [2, 3]}", "budget.trials=4")
    run_to_the_end(study, epoch, score)
    assert study.scheduler.budget.num_started == 4
    refused = [r for r in study.trials.values() if r.failure_class == "infeasible"]
    assert refused
    failure = study.optuna.trials[refused[0].number].user_attrs["failure"]
    assert failure["class"] == "infeasible"
    assert "num_heads must divide embed_dim" in failure["reason"]
    assert all(trial.failure_class != "infeasible" for trial in study.result().trials)


def test_a_measured_constraint_keeps_a_trial_off_the_front(open_study: Open, epoch: Epoch) -> None:
    study = open_study("constraints={accuracy: {min: 80}}", "scheduler.name=none", "budget.trials=2")
    for accuracy, rate in ((70.0, 0.01), (90.0, 0.2)):
        task = study.next_task()
        assert task is not None
        for number in range(1, 10):
            study.on_result(task.number, epoch(number, accuracy, rate))
    assert {point.trial for point in study.result().front()} == {1}
    assert study.optuna.trials[0].constraints == {"accuracy": 10.0}


def test_a_trial_whose_failure_was_stored_before_the_driver_was_killed_has_failed(open_study: Open) -> None:
    study = open_study()
    study.next_task()
    study._database.set_attr(0, "failure", {"class": "silent", "reason": "no spikes"})
    assert open_study().trial_result(0).failure_class == "silent"
