"""Surrogate of learning curves: a Gaussian process over config and epoch that predicts full trainings.

Notation:
    N, P   observations, and configs to predict             D, M   columns of an encoded config, and objectives
    x      encoded configs [N, D]                           t, r   trial and epoch of each observation [N]
    y      objectives [N, M]: logit of accuracy and logarithm of costs, so that halving an error or a cost is the same
           step anywhere; after subtraction of a mean learning curve, and in units of their standard deviation
    k      Matern-5/2 kernel over configs, of length scale l
    q      squared exponential kernel over log epochs

y has a part that similar configs share, at all epochs or at similar ones, a part that one training shares with itself
in the same two ways, and noise of variance s. The covariance of observations (x, t, r) and (x', t', r') is

    k(x, x') (SHARED + SHARED_LOCAL q(r, r')) + [t = t'] (OWN + OWN_LOCAL q(r, r')) + s [same observation]

Distances and the factors of k and [t = t'] are computed once for all objectives. l and s are chosen for each objective
from a small grid, by likelihood. Pure numpy and scipy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from results.pareto import Floats
from search.algorithm.encoder import Encoder

SHARED, SHARED_LOCAL, OWN, OWN_LOCAL = 0.5, 0.25, 0.12, 0.08
"""Shares of the variance."""
KernelParams = tuple[float, float]
"""Length scale l, as a share of the diagonal of the unit cube, and noise s, as a share of the variance."""
KERNEL_GRID: Sequence[KernelParams] = tuple(itertools.product((0.25, 0.5, 1.0), (0.02, 0.1)))
EPOCH_LENGTH_SCALE = 0.7
"""Length scale of q over log epochs, where the whole training has length 1."""
MAX_OBSERVATIONS = 400
"""Observations used, those at the highest epochs first: the cost grows with their cube."""
MIN_EPOCH_RATIO = 2.0
"""Of one training the latest observation is used, and each earlier one at half of the epochs of the next, or fewer."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Measurement:
    """One observation: a config after some epochs of a trial, its objectives `y` `[M]` transformed."""

    values: Mapping[str, Any]
    trial: int
    epoch: int
    y: Sequence[float]


class Posterior(NamedTuple):
    """One objective: log p(y) = -|L^-1 y|^2 / 2 - log det L + const., with L L^T the covariance, and L^-1 y `[N]`."""

    log_likelihood: float
    kernel: KernelParams
    whitened: Floats


class Surrogate:
    """Gaussian process fitted to observations; predicts objectives after `max_epochs` epochs, the full training."""

    def __init__(
        self,
        encode: Encoder,
        observed: Sequence[Measurement],
        max_epochs: int,
        kernels: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Fits to observations; `kernels`, the parameters of each objective, skip the search over the grid."""
        ordered = sorted(observed, key=lambda one: (-one.epoch, one.trial))
        trials, epochs = np.array([one.trial for one in ordered]), np.array([one.epoch for one in ordered])
        y = _clip_outliers(np.array([one.y for one in ordered]))
        self.max_epochs, self.mean_curve = max_epochs, _mean_curve(trials, epochs, y, max_epochs)

        used = _informative(ordered)[:MAX_OBSERVATIONS]
        self.x, self.trials, self.epochs = encode([ordered[i].values for i in used]), trials[used], epochs[used]
        residuals = y[used] - np.array([self.mean_curve[epoch] for epoch in self.epochs])
        self.scale = np.maximum(residuals.std(axis=0), 1e-6)
        self.y = residuals / self.scale

        grids = [KERNEL_GRID] * y.shape[1] if kernels is None else [[(length, noise)] for length, noise in kernels]
        blocks = self._blocks(self.x, self.trials, self.epochs)
        self._factors = {kernel: blocks.cholesky(kernel) for kernel in set(itertools.chain(*grids))}
        self._posteriors = [
            max((self._posterior(column, kernel) for kernel in grid), key=lambda one: one.log_likelihood)
            for column, grid in zip(self.y.T, grids, strict=True)
        ]
        self.kernels = [one.kernel for one in self._posteriors]

    def predict(self, x: Floats, trials: Sequence[int]) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation `[P, M]` of encoded configs `[P, D]` after a full training.

        The trial number tells which observations are of the same training; it is -1 for a new config.
        """
        blocks = self._blocks(x, np.array(trials), np.full(len(x), self.max_epochs))
        whitened = {kernel: self._whiten(kernel, blocks.covariance(kernel).T) for kernel in set(self.kernels)}
        means, deviations = [], []
        for i, (_, kernel, y) in enumerate(self._posteriors):
            variance = SHARED + SHARED_LOCAL + OWN + OWN_LOCAL - (whitened[kernel] ** 2).sum(axis=0)
            means.append(self.mean_curve[self.max_epochs][i] + self.scale[i] * (whitened[kernel].T @ y))
            deviations.append(self.scale[i] * np.sqrt(np.maximum(variance, 1e-6)))
        return np.stack(means, axis=1), np.stack(deviations, axis=1)

    def _posterior(self, y: Floats, kernel: KernelParams) -> Posterior:
        whitened = self._whiten(kernel, y)
        log_determinant = float(np.log(np.diag(self._factors[kernel])).sum())
        return Posterior(-0.5 * float(whitened @ whitened) - log_determinant, kernel, whitened)

    def _whiten(self, kernel: KernelParams, right: Floats) -> Floats:
        return np.asarray(solve_triangular(self._factors[kernel], right, lower=True, check_finite=False))

    def _blocks(self, x: Floats, trials: Integers, epochs: Integers) -> CovarianceBlocks:
        """Returns the blocks of the covariance between these points and the observations."""
        levels, position = np.unique(np.concatenate([epochs, self.epochs]), return_inverse=True)
        steps = np.log(levels[:, None] / levels[None, :]) / math.log(max(self.max_epochs, 2))
        q = np.exp(-0.5 * (steps / EPOCH_LENGTH_SCALE) ** 2)
        rows, columns = position[: len(epochs)], position[len(epochs) :]
        same = np.nonzero(trials[:, None] == self.trials[None, :])
        own = OWN + OWN_LOCAL * q[rows[same[0]], columns[same[1]]]
        shared = (SHARED + SHARED_LOCAL * q)[np.ix_(rows, columns)]
        return CovarianceBlocks(_distances(x, self.x), shared, same, own, x.shape[1])


@dataclass(frozen=True)
class CovarianceBlocks:
    """What does not depend on the kernel parameters: distances `[P, N]` of configs of D columns, and factors of k.

    `own` is the covariance of a training with itself, at the positions `same`.
    """

    distances: Floats
    shared: Floats
    same: tuple[Any, ...]
    own: Floats
    num_columns: int

    def covariance(self, kernel: KernelParams) -> Floats:
        """Returns the covariance `[P, N]` without noise; k = (1 + d + d^2 / 3) exp(-d) at scaled distances d."""
        d = math.sqrt(5.0 / self.num_columns) / kernel[0] * self.distances
        decay = np.exp(-d)
        found: Floats = d**2
        found /= 3.0
        d += 1.0
        found += d  # in place, as allocating temporary arrays would take longer than the arithmetic
        found *= decay
        found *= self.shared
        found[self.same] += self.own
        return found

    def cholesky(self, kernel: KernelParams) -> Floats:
        """Returns the Cholesky factor L `[N, N]` of the observations' covariance, noise included."""
        covariance = self.covariance(kernel)
        covariance.flat[:: len(covariance) + 1] += kernel[1]
        return np.asarray(np.linalg.cholesky(covariance))


def _distances(a: Floats, b: Floats) -> Floats:
    squared: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    squared -= 2.0 * a @ b.T
    np.maximum(squared, 0.0, out=squared)
    return np.sqrt(squared, out=squared)


def _informative(ordered: Sequence[Measurement]) -> list[int]:
    """Returns the positions of the observations to use; one shortly before a later one of its trial adds little."""
    earliest: dict[int, int] = {}
    found = []
    for i, one in enumerate(ordered):
        if one.trial not in earliest or one.epoch * MIN_EPOCH_RATIO <= earliest[one.trial]:
            earliest[one.trial] = one.epoch
            found.append(i)
    return found


def _clip_outliers(y: Floats) -> Floats:
    """Clips objectives `[N, M]` far outside the middle 80 %, such as those of nets without a spike."""
    low, high = np.quantile(y, (0.1, 0.9), axis=0)
    return np.clip(y, low - (high - low), high + (high - low))


def _mean_curve(trials: Integers, epochs: Integers, y: Floats, max_epochs: int) -> dict[int, Floats]:
    """Returns the mean objectives `[M]` by epoch: at the first level of all trials, then by median gains.

    Trials that reach a higher level are a selection, so their own mean would be biased.
    """
    levels = np.unique(epochs).tolist()
    curve = {levels[0]: y[epochs == levels[0]].mean(axis=0)}
    for before, level in itertools.pairwise(levels):
        _, here, there = np.intersect1d(trials[epochs == level], trials[epochs == before], return_indices=True)
        gains = y[epochs == level][here] - y[epochs == before][there]
        curve[level] = curve[before] + (np.median(gains, axis=0) if len(gains) else 0.0)
    curve.setdefault(max_epochs, curve[levels[-1]])
    return curve
