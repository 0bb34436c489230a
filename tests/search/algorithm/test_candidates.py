"""Sources of new configs: the queue, recipes and the sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.algorithm.scheduler import NothingFeasibleError, TrialScheduler

New = Callable[..., TrialScheduler]
Play = Callable[..., list[str]]

HEADS = "space={num_heads: {int: [5, 128]}, tau: {uniform: [1.1, 3.0]}}"


def test_a_finite_space_is_searched_without_duplicates_to_its_end(new_scheduler: New, play: Play, by_tau: Any) -> None:
    discrete = "space={tau: {choice: [1.2, 1.6, 2.0]}, step: {choice: [1, 2]}}"
    scheduler = new_scheduler(discrete, "scheduler.name=none", "budget.trials=50")
    play(scheduler, by_tau, workers=2)
    configs = [tuple(trial.suggestion.values.values()) for trial in scheduler.trials.values()]
    assert sorted(configs) == sorted({(tau, step) for tau in (1.2, 1.6, 2.0) for step in (1, 2)})
    assert scheduler.candidates.next() is None


def test_a_search_ends_early_if_hardly_any_config_is_feasible(
    new_scheduler: New, play: Play, by_tau: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 3)
    scheduler = new_scheduler(HEADS)
    scheduler.enqueue({"num_heads": 8, "tau": 2.0})
    play(scheduler, lambda config, number: by_tau({**config, "step": 1}, number))
    assert {trial.config["num_heads"] for trial in scheduler.trials.values() if trial.infeasible is None} <= {8, 16}
    assert scheduler.trials[0].state == "complete"
    assert scheduler.is_finished()


def test_a_search_in_which_every_config_is_refused_is_an_error(
    new_scheduler: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 3)
    scheduler = new_scheduler("space={num_heads: {choice: [3, 5, 7]}, tau: {uniform: [1.1, 3.0]}}")
    with pytest.raises(NothingFeasibleError, match="3 configs in a row were refused"):
        scheduler.suggest()
    assert [trial.state for trial in scheduler.trials.values()] == ["failed"] * 3
    assert all("num_heads" in (trial.infeasible or "") for trial in scheduler.trials.values())
    assert scheduler.budget.num_started == 0


def test_a_queued_config_runs_even_after_too_many_refusals_in_a_row(
    new_scheduler: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 3)
    scheduler = new_scheduler(HEADS, "budget={epochs: 9, epochs_total: 500}")
    scheduler.enqueue({"num_heads": 8, "tau": 2.0})
    assert scheduler.suggest()
    assert scheduler.suggest() is None
    assert not scheduler.can_start_new()
    scheduler.enqueue({"num_heads": 16, "tau": 1.5})
    assert scheduler.can_start_new()
    job = scheduler.suggest()
    assert job is not None
    assert job.values == {"num_heads": 16, "tau": 1.5}
    assert scheduler.trials[job.number].source == "added"


def test_recipes_have_odds_only_with_recipes_and_an_adaptive_sampler(new_scheduler: New) -> None:
    assert new_scheduler("start_with=[]").candidates.prior_odds() == 0.0
    scheduler = new_scheduler("sampler.name=random")
    scheduler.load_state({"start_with": [("recipe", {"tau": 1.1, "step": 1})]})
    assert scheduler.candidates.prior_odds() == 0.0


def test_the_odds_of_recipes_follow_the_results_near_them(new_scheduler: New, by_tau: Any, at_chance: Any) -> None:
    def odds_after(near: Any, elsewhere: Any) -> float:
        scheduler = new_scheduler("scheduler.mode=promote")
        scheduler.load_state({"start_with": [("recipe", {"tau": 1.1, "step": 1})]})
        assert scheduler.candidates.prior_odds() == pytest.approx(0.4 / 0.6)
        for tau, step, report in [(1.15, 1, near), (1.2, 1, near), (2.8, 2, elsewhere), (2.9, 2, elsewhere)]:
            scheduler.enqueue({"tau": tau, "step": step})
            job = scheduler.suggest()
            assert job is not None
            scheduler.on_result(job.number, report(scheduler.trials[job.number].config, 1))
        return scheduler.candidates.prior_odds()

    assert odds_after(at_chance, by_tau) < 0.4 / 0.6 < odds_after(by_tau, at_chance)
