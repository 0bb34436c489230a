"""The forecast of full trainings, and what it says is worth doing next."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.algorithm.acquisition import Acquisition, Candidate
from search.algorithm.encoder import Encoder
from search.algorithm.hypervolume_gain import HypervolumeGain, Scale, improvement_scale, transform
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.surrogate import Measurement, Surrogate
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

Read = Callable[..., Space]
SPACE = "space={tau: {uniform: [1.1, 3.0]}, step: {choice: [1, 2, 4]}, attn_layer: {choice: [SSA, SDSA]}}"


def truth(values: dict[str, Any], epoch: int) -> list[float]:
    """A logit of accuracy that peaks at tau 2, and a logarithm of the cost that grows with the steps."""
    return [2.0 - (values["tau"] - 2.0) ** 2 + math.log(epoch) / 2, math.log(values["step"]) + 0.1 * values["tau"]]


@pytest.fixture
def seen(read_space: Read) -> tuple[Space, list[Measurement]]:
    space, rng = read_space(SPACE), np.random.default_rng(0)
    found = []
    for trial in range(40):
        values = {"tau": rng.uniform(1.1, 3.0), "step": int(rng.choice([1, 2, 4])), "attn_layer": "SSA"}
        reached = (1, 3, 9)[: 1 + trial % 3]
        found += [Measurement(values, trial, epoch, truth(values, epoch)) for epoch in reached]
    return space, found


def test_accuracy_and_costs_come_back_from_their_scales() -> None:
    for percent in (10.0, 50.0, 97.3):
        assert improvement_scale("accuracy", np.array(transform("accuracy", percent))) == pytest.approx(percent)
    assert transform("spike_rate", 0.2) - transform("spike_rate", 0.1) == pytest.approx(math.log(2.0))
    assert math.isfinite(transform("synops", 0.0))


def test_full_trainings_are_foretold_from_early_epochs_of_others(seen: tuple[Space, list[Measurement]]) -> None:
    space, observed = seen
    encode = Encoder(space)
    fitted = Surrogate(encode, observed, 9)
    wanted = [{"tau": tau, "step": step, "attn_layer": "SSA"} for tau in (1.3, 2.0, 2.7) for step in (1, 4)]
    means, deviations = fitted.predict(encode(wanted), [-1] * len(wanted))
    assert np.abs(means - [truth(values, 9) for values in wanted]).max() < 0.25
    assert (deviations > 0).all()


def test_what_is_known_of_a_trial_itself_makes_its_forecast_surer(seen: tuple[Space, list[Measurement]]) -> None:
    space, observed = seen
    encode = Encoder(space)
    fitted, place = Surrogate(encode, observed, 9), encode([observed[0].values])
    _, own = fitted.predict(place, [observed[0].trial])
    _, new = fitted.predict(place, [-1])
    assert (own < new).all()


def test_one_observation_is_enough_to_foretell_something(seen: tuple[Space, list[Measurement]]) -> None:
    space, observed = seen
    encode = Encoder(space)
    means, _ = Surrogate(encode, observed[:1], 9).predict(encode([observed[0].values]), [-1])
    assert np.isfinite(means).all()


def test_of_one_training_few_observations_count_and_all_tell_how_curves_rise(
    seen: tuple[Space, list[Measurement]],
) -> None:
    space, _ = seen
    values = {"tau": 2.0, "step": 1, "attn_layer": "SSA"}
    observed = [Measurement(values, 0, epoch, truth(values, epoch)) for epoch in (1, 2, 3, 6, 9)]
    observed += [Measurement(values, 1, epoch, truth(values, epoch)) for epoch in (1, 2)]
    fitted = Surrogate(Encoder(space), observed, 9)
    used = list(zip(fitted.trials.tolist(), fitted.rungs.tolist(), strict=True))
    assert used == [(0, 9), (0, 3), (1, 2), (0, 1), (1, 1)]
    assert fitted.curve[6][0] - fitted.curve[3][0] == pytest.approx(math.log(2.0) / 2)


def test_a_dominated_forecast_adds_nothing_and_a_better_one_adds_more() -> None:
    points = np.array([[2.0, -1.0], [1.0, -2.0], [-1.0, 0.0]])
    scale = Scale.of(("accuracy", "spike_rate"), (1.0, -1.0), points, {"accuracy": 10.0})
    sure = np.full((3, 2), 1e-6)
    worse, better, best = [0.5, -0.5], [2.5, -1.5], [3.5, -2.5]
    held = HypervolumeGain(points[:2], scale, seed=0)
    added = held.expected_improvement(np.array([worse, better, best]), sure)
    assert added[0] == 0.0
    assert 0.0 < added[1] < added[2]
    assert held.front_probability(np.array([worse, better, best]), sure).tolist() == [0.0, 1.0, 1.0]
    assert 0.0 < held.front_probability(np.array([worse]), np.full((1, 2), 2.0))[0] < 1.0
    assert (
        HypervolumeGain(points, scale, seed=0).volume
        >= held.volume
        > HypervolumeGain(points[:0], scale, seed=0).volume
        == 0.0
    )


@pytest.mark.parametrize(
    "goals", ["{loss: minimize}", "{accuracy: maximize, spike_rate: minimize, energy_mj: minimize}"]
)
def test_one_objective_or_three_are_guided_as_well(
    read_space: Read, epoch: Callable[..., EpochMetrics], goals: str
) -> None:
    space = read_space(SPACE, f"objectives={goals}", "budget={epochs: 9, epochs_total: 150}")
    policy = TrialScheduler(space, space.feasible_config)
    while (job := policy.suggest()) is not None:
        number, done = job.number, job.epoch
        tau = policy.trials[number].config["tau"]
        while policy.on_result(number, epoch(done + 1, 90.0 - 9 * (tau - 2) ** 2 + done, 0.02 * tau, 1)) == "continue":
            done += 1
    full = [record for record in policy.trials.values() if record.state == "complete"]
    assert len(full) >= 3
    assert any(abs(record.config["tau"] - 2.0) < 0.5 for record in full)


def test_regions_that_failed_are_left_alone(read_space: Read, epoch: Callable[..., EpochMetrics]) -> None:
    space = read_space(SPACE, "budget={epochs: 9, epochs_total: 300}")
    policy = TrialScheduler(space, space.feasible_config)
    opened = []
    while (job := policy.suggest()) is not None and len(policy.trials) < 60:
        number, done = job.number, job.epoch
        tau = policy.trials[number].config["tau"]
        if done == 0:
            opened.append(tau)
        if tau > 2.0:
            policy.on_error(number, "silent", "no spikes")
            continue
        while policy.on_result(number, epoch(done + 1, 60.0 + 10 * tau + done, 0.2 - 0.05 * tau, 1)) == "continue":
            done += 1
    assert sum(tau > 2.0 for tau in opened[-20:]) < sum(tau > 2.0 for tau in opened[:12]) + 4


def test_a_pool_of_a_small_space_is_all_that_is_new_and_of_a_large_one_a_draw(read_space: Read) -> None:
    small = Acquisition(read_space("space={tau: {choice: [1.2, 1.6]}, step: {choice: [1, 2]}}"))
    known = '{"step": 1, "tau": 1.2}'
    assert len(small.pool({known}, [], 0)) == 3
    large = Acquisition(read_space(SPACE))
    near = [("near t0001", {"tau": 2.0, "step": 2, "attn_layer": "SSA"})]
    pool = large.pool(set(), near, 0)
    assert len(pool) > 32
    assert all(isinstance(option, Candidate) for option in pool)
    assert sum(option.source == "near t0001" for option in pool) == 32
