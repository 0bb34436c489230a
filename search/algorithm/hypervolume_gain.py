"""Expected hypervolume improvement of predicted objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from results.pareto import Floats

NUM_SAMPLES, NUM_DIRECTIONS = 16, 32
"""Samples of the predictive distribution, and directions of the hypervolume scalarization."""
MIN_SHARE_OF_RANGE = 0.1
"""A point counts for an objective's unit if it is better than the reference by this share of the range in each one."""


def transform(metric: str, value: float) -> float:
    """Returns a metric on the scale of the surrogate: the logit of accuracy, the logarithm of all others."""
    if metric == "accuracy":
        share = min(max(value / 100.0, 0.002), 0.998)
        return math.log(share / (1.0 - share))
    return math.log(max(value, 1e-9))


def improvement_scale(metric: str, y: Floats) -> Floats:
    """Maps transformed values to the scale on which improvements count: percent of accuracy, logarithm of costs."""
    return 100.0 / (1.0 + np.exp(-y)) if metric == "accuracy" else y


@dataclass(frozen=True)
class Scale:
    """Reference point, sign and unit of each of the M objectives."""

    names: tuple[str, ...]
    signs: Floats
    reference: Floats
    unit: Floats

    @classmethod
    def of(cls, names: Sequence[str], signs: Sequence[float], points: Floats, limits: Mapping[str, float]) -> Scale:
        """Returns the scale of transformed points `[N, M]`; the reference is an objective's limit, or its worst value.

        Limits are on the scale of improvements. The unit is the distance from the reference to the best value.
        """
        improved = _columnwise(names, points) * np.array(signs)
        reference = improved.min(axis=0)
        for i, name in enumerate(names):
            if name in limits:
                reference[i] = signs[i] * limits[name]
        threshold = reference + MIN_SHARE_OF_RANGE * (improved.max(axis=0) - reference)
        counted = improved[(improved > threshold).all(axis=1)]
        best = (counted if len(counted) else improved).max(axis=0)
        return cls(tuple(names), np.array(signs), reference, np.maximum(best - reference, 1e-6))

    def above_reference(self, points: Floats) -> Floats:
        """Returns how far transformed points `[..., M]` are above the reference, in units, and at least 0."""
        improved = _columnwise(self.names, points) * self.signs
        return np.asarray(np.maximum((improved - self.reference) / self.unit, 0.0))


class HypervolumeGain:
    """Hypervolume of a set of points, and what predicted points would add to it.

    The hypervolume is estimated, up to a factor, by the mean over random directions w of max_z min_i (z_i / w_i)^M
    (Zhang and Golovin, 2020, Random hypervolume scalarizations). All configs share the samples of the predictions.
    """

    def __init__(self, points: Floats, scale: Scale, seed: int) -> None:
        """Takes the transformed points `[N, M]` that are attained already; N may be 0."""
        rng = np.random.default_rng(seed)
        self._scale, self._num_objectives = scale, len(scale.names)
        self._noise = rng.standard_normal((NUM_SAMPLES, 1, self._num_objectives))
        self._directions = _directions(self._num_objectives, rng)
        self._attained = self._scalarized(points).max(axis=0) if len(points) else np.zeros(NUM_DIRECTIONS)
        self.volume = float(self._attained.mean())

    def expected_improvement(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the expected hypervolume improvement `[P]` of P predictions `[P, M]`."""
        return np.asarray(self._improvements(means, deviations).mean(axis=(0, 2)))

    def front_probability(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the probability `[P]` that a config adds any volume, and so is on the Pareto front."""
        return np.asarray((self._improvements(means, deviations) > 0.0).any(axis=2).mean(axis=0))

    def _improvements(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the improvements `[samples, P, directions]`."""
        return np.maximum(self._scalarized(means + deviations * self._noise) - self._attained, 0.0)

    def _scalarized(self, points: Floats) -> Floats:
        distance = self._scale.above_reference(points)
        ratios = (distance[..., i, None] / self._directions[:, i] for i in range(self._num_objectives))
        return np.asarray(reduce(np.minimum, ratios) ** self._num_objectives)


def _columnwise(names: Sequence[str], points: Floats) -> Floats:
    return np.stack([improvement_scale(name, points[..., i]) for i, name in enumerate(names)], axis=-1)


def _directions(num_objectives: int, rng: np.random.Generator) -> Floats:
    """Returns directions in the positive orthant: evenly spaced for two objectives, random for more."""
    if num_objectives == 2:
        angles = (np.arange(NUM_DIRECTIONS) + 0.5) / NUM_DIRECTIONS * math.pi / 2.0
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    normal = np.abs(rng.standard_normal((NUM_DIRECTIONS, num_objectives)))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))
