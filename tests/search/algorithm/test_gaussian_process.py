"""Gaussian processes with a length scale per key, and their chain over rungs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal, spearmanr

from search.algorithm.gaussian_process import Chain, GaussianProcess, Kernel, _NegativeLogPosterior, _squared_distances

GROUPS = [0, 1, 1, 2]


def sample(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns configs of three keys, the second a choice of two options, and values that ignore the third."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 4))
    x[:, 1] = rng.integers(2, size=count)
    x[:, 2] = 1 - x[:, 1]
    return x, np.sin(3 * x[:, 0]) + x[:, 1] + 0.05 * rng.standard_normal(count)


def test_predictions_are_those_of_the_conditional_normal_distribution() -> None:
    x, y = sample(12)
    kernel = Kernel(GROUPS, [-0.3, 0.1, 0.4, -1.0])
    process = GaussianProcess(kernel, x[:9], y[:9])
    mean, variance = process.predict(x[9:])
    every = kernel(x, x)
    noisy = every[:9, :9] + kernel.noise * np.eye(9)
    weights = np.linalg.solve(noisy, every[:9, 9:]).T
    signal = (y[:9] - y[:9].mean()) @ np.linalg.solve(noisy, y[:9] - y[:9].mean()) / 9
    assert mean == pytest.approx(y[:9].mean() + weights @ (y[:9] - y[:9].mean()))
    assert variance == pytest.approx(signal * (1.0 - np.einsum("ij,ji->i", weights, every[:9, 9:])))
    assert process.predict_mean(x[9:]) == pytest.approx(mean)


def test_the_likelihood_is_that_of_the_normal_distribution_and_its_gradient_is_exact() -> None:
    x, y = sample(15)
    y -= y.mean()
    posterior = _NegativeLogPosterior(_squared_distances(x, GROUPS), y)

    def exact(log_params: np.ndarray) -> float:
        kernel = Kernel(GROUPS, log_params.tolist())
        covariance = kernel(x, x) + kernel.noise * np.eye(15)
        variance = y @ np.linalg.solve(covariance, y) / 15
        return -float(multivariate_normal(np.zeros(15), variance * covariance).logpdf(y))

    one, other = np.array([-0.3, 0.1, 0.4, -1.0]), np.array([0.5, -0.2, 0.0, -0.5])
    prior = [0.5 * float(((p - np.array(Kernel.initial(GROUPS).log_params)) ** 2).sum()) for p in (one, other)]
    difference = posterior(one)[0] - prior[0] - posterior(other)[0] + prior[1]
    assert difference == pytest.approx(exact(one) - exact(other), abs=1e-3)
    assert posterior(one)[1] == pytest.approx(approx_fprime(one, lambda p: posterior(p)[0], 1e-6), abs=1e-3)


def test_a_key_without_effect_gets_a_long_length_scale() -> None:
    x, y = sample(60)
    lengths = Kernel.initial(GROUPS).fitted(x, y).log_params
    assert lengths[2] > 1.0 > lengths[0]


def test_a_chain_uses_many_cheap_observations_to_predict_few_expensive_ones() -> None:
    x, y = sample(80)
    kernel = Kernel.initial(GROUPS)
    expensive = 2.0 * y + x[:, 3]
    chain = Chain()
    for rows, values in ((slice(0, 80), y), (slice(0, 8), expensive)):
        rho, residuals = chain.residuals(x[rows], values[rows])
        chain.append(rho, GaussianProcess(kernel.fitted(x[rows], residuals), x[rows], residuals))
    alone = GaussianProcess(kernel.fitted(x[:8], expensive[:8]), x[:8], expensive[:8])
    mean, deviation = chain.predict(x[8:])
    assert 1.0 < rho < 3.0
    assert mean == pytest.approx(chain.predict_mean(x[8:]))
    assert (deviation > 0.0).all()
    assert (
        spearmanr(mean, expensive[8:]).statistic > 0.95 > spearmanr(alone.predict_mean(x[8:]), expensive[8:]).statistic
    )


def test_a_lower_rung_that_misleads_is_ignored() -> None:
    x, y = sample(40)
    chain = Chain()
    chain.append(0.0, GaussianProcess(Kernel.initial(GROUPS), x, -y))
    rho, residuals = chain.residuals(x, y)
    assert rho == 0.0
    assert residuals == pytest.approx(y)
