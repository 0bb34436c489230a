"""Selection among paused trials and new configs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.algorithm.acquisition import Acquisition, Candidate
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Suggestion, Trial
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

Read = Callable[..., Space]
SPACE = "space={tau: {uniform: [1.1, 3.0]}, step: {choice: [1, 2, 4]}, attn_layer: {choice: [SSA, SDSA]}}"
TAUS = [round(1.1 + 0.1 * i, 1) for i in range(20)]


def trained(space: Space, taus: list[float], accuracy: Callable[[float], float]) -> dict[int, Trial]:
    """Trials trained in full whose energy grows with tau."""
    found = {}
    for number, tau in enumerate(taus):
        values: dict[str, Any] = {"tau": tau}
        metrics = {"accuracy": accuracy(tau), "energy_mj": 0.01 * tau**3, "spike_rate": 0.1}
        trial = Trial(number, Suggestion(values, {}, {}), values, "complete")
        trial.epochs = dict.fromkeys((1, 3, 9), metrics)
        trial.read_outs = [metrics]
        found[number] = trial
    return found


def candidates(taus: list[float]) -> list[Candidate]:
    return [Candidate({"tau": tau}) for tau in taus]


def test_candidates_outside_the_constraints_are_not_selected(read_space: Read) -> None:
    keys = (f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    free, bound = read_space(*keys), read_space(*keys, "constraints={energy_mj: {max: 0.05}}")
    tried, untried = TAUS[::2], TAUS[1::2]
    chosen = {}
    for name, space in (("free", free), ("bound", bound)):
        trials = trained(space, tried, lambda tau: 30.0 + 20.0 * tau)
        chosen[name] = Acquisition(space).select(trials, candidates(untried), 0).values["tau"]
    assert 0.01 * chosen["free"] ** 3 > 0.1
    assert 0.01 * chosen["bound"] ** 3 < 0.06


def test_the_probability_of_feasibility_is_that_of_a_normal_prediction(read_space: Read) -> None:
    keys = (f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    acquisition = Acquisition(read_space(*keys, "constraints={energy_mj: {max: 0.05}}"))
    assert acquisition.bounded_metrics == ["energy_mj"]
    feasibility = acquisition._feasibility(np.log([[0.01], [0.05], [0.25]]), np.full((3, 1), 0.1))
    assert np.round(feasibility, 2).tolist() == [1.0, 0.5, 0.0]


def test_improvements_of_accuracy_count_from_the_chance_level_that_trials_report(
    read_space: Read, epoch: Callable[..., EpochMetrics]
) -> None:
    def scheduler() -> TrialScheduler:
        space = read_space(SPACE)
        return TrialScheduler(space, space.feasible_config)

    first, resumed = scheduler(), scheduler()
    assert first.acquisition._limits()["accuracy"] == 10.0  # ten classes
    report, job = epoch(1, 95.0, 0.1), first.suggest()
    assert job is not None
    first.on_result(job.number, replace(report, read_outs=[{**report.read_outs[0], "chance": 93.2}]))
    assert first.acquisition._limits()["accuracy"] == 93.2
    resumed.load_state(first.state())
    assert resumed.acquisition._limits()["accuracy"] == 93.2


def test_an_objective_with_a_bound_is_not_predicted_twice(read_space: Read) -> None:
    space = read_space("constraints={accuracy: {min: 40}, spike_rate: {max: 0.2}, params_m: {max: 9}}")
    assert Acquisition(space).bounded_metrics == []


def test_configs_near_a_prior_config_weigh_more(read_space: Read) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    acquisition, trials = Acquisition(space), trained(space, TAUS[::2], lambda tau: 60.0 + 5.0 * math.sin(99.0 * tau))
    prior = {"tau": 2.0}
    similarity = acquisition.similarity([prior], [{"tau": tau} for tau in (2.0, 2.1, 2.9)])
    assert similarity[0] == 1.0
    assert 0.5 < similarity[1] < 1.0
    assert similarity[2] < 0.01
    plain = acquisition.select(trials, candidates(TAUS[1::2]), 0).values["tau"]
    weighted = acquisition.select(trials, candidates(TAUS[1::2]), 0, [prior], odds=50.0).values["tau"]
    assert abs(weighted - 2.0) < 0.35 < abs(plain - 2.0)


def test_a_paused_trial_at_a_high_rung_beats_a_slightly_more_promising_new_config(
    read_space: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    trials = trained(space, [tau for tau in TAUS if tau != 2.0], lambda tau: 80.0 - 40.0 * abs(tau - 2.0))
    for trial in trials.values():
        trial.state, trial.read_outs, trial.epochs = "paused", [], {epoch: trial.epochs[epoch] for epoch in (1, 3)}
    poor = trials[1]
    two = [Candidate(poor.suggestion.values, poor.number, 3), Candidate({"tau": 2.0})]
    assert Acquisition(space).select(trials, two, 0).number == poor.number
    monkeypatch.setattr("search.algorithm.acquisition.OPTIMISM_DISCOUNT", {})
    assert Acquisition(space).select(trials, two, 0).number == -1


def test_paused_trials_that_may_be_on_the_front_take_precedence_if_no_candidate_promises_much(
    read_space: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    trials = trained(space, TAUS[:-1], lambda tau: 80.0 - 20.0 * abs(tau - 2.0))
    unlucky, poor = TAUS.index(2.0), TAUS.index(1.1)
    for number, loss in ((unlucky, 9.0), (poor, 0.0)):
        trial = trials[number]
        trial.state, trial.read_outs = "paused", []
        metrics = {**trial.epochs[9], "accuracy": trial.epochs[9]["accuracy"] - loss}
        trial.epochs = dict.fromkeys((1, 3), metrics)
    offered = [Candidate(trials[number].suggestion.values, number, 3) for number in (poor, unlucky)]
    offered.append(Candidate({"tau": 3.0}))
    chosen = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("search.algorithm.acquisition.MIN_RELATIVE_GAIN", share)
        chosen[share] = Acquisition(space).select(trials, offered, 0).number
    assert chosen[1.0] == unlucky != chosen[0.0]
    monkeypatch.setattr("search.algorithm.acquisition.MIN_FRONT_PROBABILITY", 1.1)
    assert Acquisition(space).select(trials, offered, 0).number == chosen[0.0]


@pytest.mark.parametrize(
    "objectives", ["{loss: minimize}", "{accuracy: maximize, spike_rate: minimize, energy_mj: minimize}"]
)
def test_one_objective_or_three_lead_to_the_best_region(
    read_space: Read, epoch: Callable[..., EpochMetrics], objectives: str
) -> None:
    space = read_space(SPACE, f"objectives={objectives}", "budget={epochs: 9, epochs_total: 150}")
    scheduler = TrialScheduler(space, space.feasible_config)
    while (job := scheduler.suggest()) is not None:
        number, done = job.number, job.epoch
        tau = scheduler.trials[number].config["tau"]
        while (
            scheduler.on_result(number, epoch(done + 1, 90.0 - 9 * (tau - 2) ** 2 + done, 0.02 * tau, 1)) == "continue"
        ):
            done += 1
    complete = [trial for trial in scheduler.trials.values() if trial.state == "complete"]
    assert len(complete) >= 3
    assert any(abs(trial.config["tau"] - 2.0) < 0.5 for trial in complete)


def test_regions_that_failed_are_avoided(read_space: Read, epoch: Callable[..., EpochMetrics]) -> None:
    space = read_space(SPACE, "budget={epochs: 9, epochs_total: 300}")
    scheduler = TrialScheduler(space, space.feasible_config)
    started = []
    while (job := scheduler.suggest()) is not None and len(scheduler.trials) < 60:
        number, done = job.number, job.epoch
        tau = scheduler.trials[number].config["tau"]
        if done == 0:
            started.append(tau)
        if tau > 2.0:
            scheduler.on_error(number, "silent", "no spikes")
            continue
        while scheduler.on_result(number, epoch(done + 1, 60.0 + 10 * tau + done, 0.2 - 0.05 * tau, 1)) == "continue":
            done += 1
    assert sum(tau > 2.0 for tau in started[-20:]) < sum(tau > 2.0 for tau in started[:12]) + 4


def test_the_pool_holds_all_new_configs_of_a_small_space_and_a_sample_of_a_large_one(read_space: Read) -> None:
    small = Acquisition(read_space("space={tau: {choice: [1.2, 1.6]}, step: {choice: [1, 2]}}"))
    known = '{"step": 1, "tau": 1.2}'
    assert len(small.pool({known}, [], 0)) == 3
    large = Acquisition(read_space(SPACE))
    near = [("near t0001", {"tau": 2.0, "step": 2, "attn_layer": "SSA"})]
    pool = large.pool(set(), near, 0)
    assert len(pool) > 32
    assert all(isinstance(candidate, Candidate) for candidate in pool)
    assert sum(candidate.source == "near t0001" for candidate in pool) == 32
