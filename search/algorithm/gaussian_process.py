"""Gaussian process regression with a length scale per key, and a chain of processes over the rungs.

Notation:
    N, P   observations, and configs to predict         D, K   columns of an encoded config, and keys
    x, z   encoded configs [N, D] and [P, D]            y      observed values [N], roughly standard normal
    l      length scale of each key [K]                 s      variance of the noise, relative to the signal's

The kernel is k(x, x') = exp(-sum_k |x_k - x'_k|^2 / (2 l_k^2)), and the covariance of observations v (k + s I), where v
has a closed form. l and s maximise the likelihood under a wide prior. Pure numpy and scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from results.pareto import Floats

INITIAL_LENGTH, INITIAL_NOISE = 0.7, 0.3
"""Medians of the log-normal priors of a length scale, where a key's values span 1, and of the root of s."""
MAX_ITERATIONS = 15
JITTER = 1e-6
MAX_RHO = 3.0
"""Largest factor between the values at two rungs."""


@dataclass(frozen=True)
class Kernel:
    """Length scales of the keys and relative noise, as logarithms `[K + 1]`; `groups` `[D]` has the key of a column."""

    groups: Sequence[int]
    log_params: Sequence[float]

    @classmethod
    def initial(cls, groups: Sequence[int]) -> Kernel:
        return cls(groups, [math.log(INITIAL_LENGTH)] * (max(groups) + 1) + [math.log(INITIAL_NOISE)])

    @property
    def noise(self) -> float:
        return math.exp(2.0 * self.log_params[-1]) + JITTER

    def __call__(self, a: Floats, b: Floats) -> Floats:
        """Returns k(a, b) `[N, P]` of encoded configs `[N, D]` and `[P, D]`."""
        inverse = np.exp(-np.asarray(self.log_params[:-1]))[list(self.groups)]
        a, b = a * inverse, b * inverse
        squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * (a @ b.T)
        return np.asarray(np.exp(-0.5 * np.maximum(squared, 0.0)))

    def fitted(self, x: Floats, y: Floats) -> Kernel:
        """Returns the kernel that maximises the posterior of its parameters, starting from these."""
        bounds = [(-3.0, 3.0)] * (len(self.log_params) - 1) + [(-4.0, 1.0)]
        objective = _NegativeLogPosterior(_squared_distances(x, self.groups), y - y.mean())
        options = {"maxiter": MAX_ITERATIONS}
        found = minimize(objective, self.log_params, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return Kernel(self.groups, found.x.tolist())


class _NegativeLogPosterior:
    """Value and gradient for log parameters, up to a constant, with the signal's variance at its optimum."""

    def __init__(self, squared: Floats, y: Floats) -> None:
        self.squared, self.y, self.eye = squared, y, np.eye(len(y))

    def __call__(self, log_params: Floats) -> tuple[float, Floats]:
        n, precision, noise = len(self.y), np.exp(-2.0 * log_params[:-1]), math.exp(2.0 * log_params[-1])
        correlation = np.exp(-0.5 * np.tensordot(precision, self.squared, 1))
        factor = cho_factor(correlation + (noise + JITTER) * self.eye, lower=True, check_finite=False)
        inverse = cho_solve(factor, self.eye, check_finite=False)
        weights = inverse @ self.y
        variance = max(float(self.y @ weights) / n, 1e-12)
        value = 0.5 * n * math.log(variance) + float(np.log(np.diag(factor[0])).sum())
        slope = np.outer(weights, weights) / variance - inverse
        by_length = -0.5 * np.tensordot(self.squared, slope * correlation, 2) * precision
        gradient = np.append(by_length, -noise * np.trace(slope))
        deviation = log_params - np.append(np.full(len(precision), math.log(INITIAL_LENGTH)), math.log(INITIAL_NOISE))
        return value + 0.5 * float(deviation @ deviation), gradient + deviation


class GaussianProcess:
    """Posterior of one objective for a kernel."""

    def __init__(self, kernel: Kernel, x: Floats, y: Floats) -> None:
        self.kernel, self.x, self.mean = kernel, x, float(y.mean())
        covariance = kernel(x, x)
        covariance[np.diag_indices(len(x))] += kernel.noise
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._weights = cho_solve(self._factor, y - self.mean, check_finite=False)
        self._variance = max(float((y - self.mean) @ self._weights) / len(y), 1e-6)

    def predict_mean(self, z: Floats) -> Floats:
        """Returns the posterior mean `[P]`."""
        return np.asarray(self.mean + self.kernel(z, self.x) @ self._weights)

    def predict(self, z: Floats) -> tuple[Floats, Floats]:
        """Returns the posterior mean and variance `[P]` without noise."""
        cross = self.kernel(z, self.x)
        whitened = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        variance = self._variance * np.maximum(1.0 - (whitened**2).sum(axis=0), 1e-9)
        return np.asarray(self.mean + cross @ self._weights), np.asarray(variance)


class Chain:
    """Processes of one objective over the rungs, from the lowest: each predicts what the lower ones leave.

    The value at a rung is f_i(x) = rho_i f_(i-1)(x) + d_i(x), with d_i a Gaussian process and rho_i from least squares
    (Kennedy and O'Hagan 2000, in the recursive form of Le Gratiet 2014).
    """

    def __init__(self) -> None:
        self._links: list[tuple[float, GaussianProcess]] = []

    def residuals(self, x: Floats, y: Floats) -> tuple[float, Floats]:
        """Returns rho and y - rho f(x) for observations at the next rung."""
        if not self._links:
            return 0.0, y
        lower = self.predict_mean(x)
        centred = lower - lower.mean()
        slope = float(centred @ (y - y.mean())) / (float(centred @ centred) + 1e-9)
        rho = min(max(slope, 0.0), MAX_RHO)
        return rho, y - rho * lower

    def append(self, rho: float, process: GaussianProcess) -> None:
        self._links.append((rho, process))

    def predict_mean(self, z: Floats) -> Floats:
        """Returns the mean `[P]` at the highest rung."""
        mean = np.zeros(len(z))
        for rho, process in self._links:
            mean = rho * mean + process.predict_mean(z)
        return mean

    def predict(self, z: Floats) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation `[P]` at the highest rung."""
        mean, variance = np.zeros(len(z)), np.zeros(len(z))
        for rho, process in self._links:
            own_mean, own_variance = process.predict(z)
            mean, variance = rho * mean + own_mean, rho**2 * variance + own_variance
        return mean, np.sqrt(variance)


def _squared_distances(x: Floats, groups: Sequence[int]) -> Floats:
    """Returns the squared distances `[K, N, N]` of encoded configs, by key."""
    columns = (x[:, np.asarray(groups) == key] for key in range(max(groups) + 1))
    return np.stack([((one[:, None, :] - one[None, :, :]) ** 2).sum(axis=2) for one in columns])
