"""Properties that follow from a trial's state."""

from __future__ import annotations

from search.algorithm.trial import Suggestion, Trial


def test_the_epoch_of_a_trial_is_its_last() -> None:
    trial = Trial(0, Suggestion({}, {}, {}), {})
    assert trial.epoch == 0
    trial.epochs |= {1: {"accuracy": 10.0}, 2: {"accuracy": 20.0}}
    assert trial.epoch == 2


def test_a_refused_config_and_a_repeat_do_not_count_against_a_budget_in_trials() -> None:
    suggestion = Suggestion({}, {}, {})
    assert Trial(0, suggestion, {}).is_counted
    assert Trial(1, suggestion, {}, "failed", "diverged", "loss is nan").is_counted
    assert not Trial(2, suggestion, {}, seed_of=0).is_counted
    refused = Trial(3, suggestion, {}, "failed", "infeasible", "num_heads must divide embed_dim")
    assert not refused.is_counted
    assert refused.infeasible == "num_heads must divide embed_dim"


def test_the_reason_of_a_failed_training_is_not_that_of_a_refusal() -> None:
    assert Trial(0, Suggestion({}, {}, {}), {}, "failed", "error", "boom").infeasible is None
