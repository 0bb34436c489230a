"""What a config would reach at full fidelity, foretold from all rungs: a Gaussian process over config and epoch.

A value y(c, r) of config c after r epochs is a mean curve m(r), plus what neighbouring configs share at all epochs and
at this one, plus what this very training keeps of its own, plus noise:

    cov = k(c, c') (a + b q(r, r')) + [c = c'] (d + e q(r, r')) + noise

with k a Matern-5/2 kernel over the searched keys and q a squared exponential over log epochs. Accuracy is taken as its
logit and costs as their logarithm, so that an error halved or a cost halved is the same step anywhere. Pure numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from results.pareto import Floats
from search.algorithm.encoder import Encoder

SHARED, SHARED_AT, OWN, OWN_AT = 0.5, 0.25, 0.12, 0.08
"""Parts of the variance: a, b, d, e above."""
KernelParams = tuple[float, float]
KERNEL_GRID: Sequence[KernelParams] = tuple(itertools.product((0.25, 0.5, 1.0), (0.02, 0.1)))
"""Length scales, as shares of the distance between opposite corners of the space, and shares of noise."""
EPOCH_SCALE = 0.7
"""Length scale over log epochs, where the whole training is 1."""
MAX_POINTS = 400
"""Observations used, those of the highest rungs first: the cost grows with their cube."""
APART = 2.0
"""Of one training, the latest observation is used, and each earlier one at half of the epochs of the next, or fewer."""


@dataclass(frozen=True)
class Measurement:
    """One config after so many epochs, its values already on the scale of `to_scale`."""

    values: Mapping[str, Any]
    trial: int
    epoch: int
    y: Sequence[float]


class Surrogate:
    """The process fitted to what was observed; `epochs` is full fidelity."""

    def __init__(
        self,
        encode: Encoder,
        observed: Sequence[Measurement],
        epochs: int,
        shapes: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Fits to what was observed; `shapes`, one an objective, are those of an earlier fit, to save the search."""
        ordered = sorted(observed, key=lambda o: (-o.epoch, o.trial))
        trials, rungs = np.array([o.trial for o in ordered]), np.array([o.epoch for o in ordered])
        y = np.array([o.y for o in ordered])
        y = np.clip(y, *_bounds(y))
        self.epochs = epochs
        self.curve = _mean_curve(trials, rungs, y, epochs)
        chosen = _informative(ordered)[:MAX_POINTS]
        self.trials, self.rungs = trials[chosen], rungs[chosen]
        self.inputs = encode([ordered[i].values for i in chosen])
        y = y[chosen] - np.array([self.curve[ordered[i].epoch] for i in chosen])
        self.spread = np.maximum(y.std(axis=0), 1e-6)
        self.y = y / self.spread
        tried = [KERNEL_GRID] * self.y.shape[1] if shapes is None else [[(length, noise)] for length, noise in shapes]
        kin = self._blocks(self.inputs, self.trials, self.rungs)
        self._factors = {shape: self._factor(kin, shape) for shape in set(itertools.chain(*tried))}
        found = [max((self._solve(i, shape) for shape in some), key=lambda f: f[0]) for i, some in enumerate(tried)]
        self.shapes = [shape for _, shape, _ in found]
        self._halves = [half for _, _, half in found]

    def _factor(self, kin: CovarianceBlocks, shape: KernelParams) -> Floats:
        covariance = kin.covariance(shape, self.inputs.shape[1])
        covariance.flat[:: len(covariance) + 1] += shape[1]
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)

    def _solve(self, objective: int, shape: KernelParams) -> tuple[float, KernelParams, Floats]:
        """Returns the likelihood of an objective's data under a shape, with what a forecast needs."""
        factor = self._factors[shape]
        half: Floats = solve_triangular(factor, self.y[:, objective], lower=True, check_finite=False)
        return -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum()), shape, half

    def predict(self, inputs: Floats, trials: Sequence[int]) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation `[n, objectives]` of encoded configs at full fidelity.

        A trial of -1 is a new config.
        """
        kin = self._blocks(inputs, np.array(trials), np.full(len(inputs), self.epochs))
        solved = {shape: self._solved(shape, kin.covariance(shape, inputs.shape[1])) for shape in set(self.shapes)}
        means, deviations = [], []
        for i, (shape, half) in enumerate(zip(self.shapes, self._halves, strict=True)):
            left = SHARED + SHARED_AT + OWN + OWN_AT - (solved[shape] ** 2).sum(axis=0)
            means.append(self.curve[self.epochs][i] + self.spread[i] * (solved[shape].T @ half))
            deviations.append(self.spread[i] * np.sqrt(np.maximum(left, 1e-6)))
        return np.stack(means, axis=1), np.stack(deviations, axis=1)

    def _solved(self, shape: KernelParams, cross: Floats) -> Floats:
        found: Floats = solve_triangular(self._factors[shape], cross.T, lower=True, check_finite=False)
        return found

    def _blocks(self, inputs: Floats, trials: Any, rungs: Any) -> CovarianceBlocks:
        """Returns what the covariance with the observed ones is made of, whatever the shape."""
        epochs, place = np.unique(np.concatenate([rungs, self.rungs]), return_inverse=True)
        steps = np.log(epochs[:, None] / epochs[None, :]) / math.log(max(self.epochs, 2))
        alike = np.exp(-0.5 * (steps / EPOCH_SCALE) ** 2)
        here, there = place[: len(rungs)], place[len(rungs) :]
        same = np.nonzero(trials[:, None] == self.trials[None, :])
        own = OWN + OWN_AT * alike[here[same[0]], there[same[1]]]
        return CovarianceBlocks(
            _distances(inputs, self.inputs), (SHARED + SHARED_AT * alike)[np.ix_(here, there)], same, own
        )


@dataclass(frozen=True)
class CovarianceBlocks:
    """Distances between configs, `[n, observed]`, and how much of the variance two such trainings share at most.

    `shared` is for neighbouring configs, `own` for a training with itself, at the places `same`.
    """

    far: Floats
    shared: Floats
    same: tuple[Any, ...]
    own: Floats

    def covariance(self, shape: KernelParams, width: int) -> Floats:
        """Returns the covariance, without noise, of configs whose vectors have this width."""
        reach = math.sqrt(5.0 / width) / shape[0] * self.far
        fading = np.exp(-reach)
        found: Floats = reach**2
        found /= 3.0
        reach += 1.0
        found += reach  # in place: what is added up here takes longer to fetch than to add
        found *= fading
        found *= self.shared
        found[self.same] += self.own
        return found


def _distances(a: Floats, b: Floats) -> Floats:
    found: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    found -= 2.0 * a @ b.T
    np.maximum(found, 0.0, out=found)
    return np.sqrt(found, out=found)


def _informative(ordered: Sequence[Measurement]) -> list[int]:
    """Returns which of the observations, the highest epoch first, are used: close to a later one they say little."""
    earliest: dict[int, int] = {}
    found = []
    for i, one in enumerate(ordered):
        if one.trial not in earliest or one.epoch * APART <= earliest[one.trial]:
            earliest[one.trial] = one.epoch
            found.append(i)
    return found


def _bounds(y: Floats) -> tuple[Floats, Floats]:
    """Returns between which values each objective is taken: what is far outside, no spike at all say, tells nothing."""
    low, high = np.quantile(y, (0.1, 0.9), axis=0)
    return low - (high - low), high + (high - low)


def _mean_curve(trials: Any, rungs: Any, y: Floats, epochs: int) -> dict[int, Floats]:
    """Returns the mean at each rung: that of the first, and on from there the median gain of those that went on.

    The trials at a higher rung are chosen ones, so their own mean would be no mean of all.
    """
    levels = [int(level) for level in np.unique(rungs)]
    curve = {levels[0]: y[rungs == levels[0]].mean(axis=0)}
    for before, level in itertools.pairwise(levels):
        _, here, there = np.intersect1d(trials[rungs == level], trials[rungs == before], return_indices=True)
        gains = y[rungs == level][here] - y[rungs == before][there]
        curve[level] = curve[before] + (np.median(gains, axis=0) if len(gains) else 0.0)
    curve.setdefault(epochs, curve[levels[-1]])
    return curve
