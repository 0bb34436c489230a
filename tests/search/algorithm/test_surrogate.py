"""Predictions of full trainings by the surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor

from benchmarks.surrogate import EpochKernel, rows_of
from search.algorithm.encoder import Encoder
from search.algorithm.surrogate import Measurement, Surrogate
from search.space.space import Space

Read = Callable[..., Space]
SPACE = "space={tau: {uniform: [1.1, 3.0]}, step: {choice: [1, 2, 4]}, attn_layer: {choice: [SSA, SDSA]}}"


def truth(values: dict[str, Any], epoch: int) -> list[float]:
    """Returns a logit of accuracy that peaks at tau 2, and a logarithm of the cost that grows with the steps."""
    return [2.0 - (values["tau"] - 2.0) ** 2 + math.log(epoch) / 2, math.log(values["step"]) + 0.1 * values["tau"]]


@pytest.fixture
def measured(read_space: Read) -> tuple[Space, list[Measurement]]:
    space, rng = read_space(SPACE), np.random.default_rng(0)
    found = []
    for trial in range(40):
        values = {"tau": rng.uniform(1.1, 3.0), "step": int(rng.choice([1, 2, 4])), "attn_layer": "SSA"}
        reached = (1, 3, 9)[: 1 + trial % 3]
        found += [Measurement(values, trial, epoch, truth(values, epoch)) for epoch in reached]
    return space, found


def test_full_trainings_are_predicted_from_early_epochs_of_others(measured: tuple[Space, list[Measurement]]) -> None:
    space, observed = measured
    encode = Encoder(space)
    surrogate = Surrogate(encode, observed, 9)
    configs = [{"tau": tau, "step": step, "attn_layer": "SSA"} for tau in (1.3, 2.0, 2.7) for step in (1, 4)]
    means, deviations = surrogate.predict(encode(configs), [-1] * len(configs))
    assert np.abs(means - [truth(values, 9) for values in configs]).max() < 0.25
    assert (deviations > 0).all()


def test_observations_of_a_trial_make_its_prediction_more_certain(
    measured: tuple[Space, list[Measurement]],
) -> None:
    space, observed = measured
    encode = Encoder(space)
    surrogate, x = Surrogate(encode, observed, 9), encode([observed[0].values])
    _, own = surrogate.predict(x, [observed[0].trial])
    _, new = surrogate.predict(x, [-1])
    assert (own < new).all()


def test_one_observation_is_enough_for_a_prediction(measured: tuple[Space, list[Measurement]]) -> None:
    space, observed = measured
    encode = Encoder(space)
    means, _ = Surrogate(encode, observed[:1], 9).predict(encode([observed[0].values]), [-1])
    assert np.isfinite(means).all()


def test_few_observations_of_each_training_are_used_and_all_of_them_shape_the_mean_curve(
    measured: tuple[Space, list[Measurement]],
) -> None:
    space, _ = measured
    values = {"tau": 2.0, "step": 1, "attn_layer": "SSA"}
    observed = [Measurement(values, 0, epoch, truth(values, epoch)) for epoch in (1, 2, 3, 6, 9)]
    observed += [Measurement(values, 1, epoch, truth(values, epoch)) for epoch in (1, 2)]
    surrogate = Surrogate(Encoder(space), observed, 9)
    used = list(zip(surrogate.trials.tolist(), surrogate.epochs.tolist(), strict=True))
    assert used == [(0, 9), (0, 3), (1, 2), (0, 1), (1, 1)]
    assert surrogate.mean_curve[6][0] - surrogate.mean_curve[3][0] == pytest.approx(math.log(2.0) / 2)


def test_given_kernels_skip_the_search_and_predict_the_same(measured: tuple[Space, list[Measurement]]) -> None:
    space, observed = measured
    encode = Encoder(space)
    first = Surrogate(encode, observed, 9)
    second = Surrogate(encode, observed, 9, [list(kernel) for kernel in first.kernels])
    x = encode([observed[0].values])
    np.testing.assert_array_equal(first.predict(x, [-1]), second.predict(x, [-1]))


def test_predictions_equal_scikit_learns_with_the_same_kernel(measured: tuple[Space, list[Measurement]]) -> None:
    space, observed = measured
    encode = Encoder(space)
    surrogate = Surrogate(encode, observed, 9)
    new = encode([{"tau": tau, "step": 2, "attn_layer": "SDSA"} for tau in (1.2, 1.9, 2.8)])
    trials = [-1, observed[0].trial, -1]
    means, deviations = surrogate.predict(new, trials)
    for i, (length, noise) in enumerate(surrogate.kernels):
        reference = GaussianProcessRegressor(EpochKernel(length, 9), alpha=noise, optimizer=None)
        reference.fit(rows_of(surrogate.x, surrogate.trials, surrogate.epochs), surrogate.y[:, i])
        mean, deviation = reference.predict(rows_of(new, trials, [9] * 3), return_std=True)
        expected = surrogate.mean_curve[9][i] + surrogate.scale[i] * mean
        np.testing.assert_allclose(means[:, i], expected, rtol=1e-9)
        np.testing.assert_allclose(deviations[:, i], surrogate.scale[i] * deviation, rtol=1e-6)
