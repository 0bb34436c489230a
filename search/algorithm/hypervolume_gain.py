"""Expected hypervolume improvement of predicted objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from results.pareto import Floats

NUM_SAMPLES, NUM_DIRECTIONS = 16, 32
"""Draws from the forecast, and directions in which volume is measured."""


WORTH = 0.1
"""A point counts for the unit of an objective when it is this share of the range better than the worst in each."""


def transform(metric: str, value: float) -> float:
    """Returns a metric on the scale on which it is foretold: logit of accuracy, logarithm of all else."""
    if metric == "accuracy":
        share = min(max(value / 100.0, 0.002), 0.998)
        return math.log(share / (1.0 - share))
    return math.log(max(value, 1e-9))


def improvement_scale(metric: str, y: Floats) -> Floats:
    """Returns where values on the scale lie where improvements count: percent of accuracy, logarithms of costs."""
    return 100.0 / (1.0 + np.exp(-y)) if metric == "accuracy" else y


class HypervolumeGain:
    """What points on the scale of `to_scale` dominate, and what a forecast would add to it.

    Volumes are the mean over directions w of max_z min_i (z_i / w_i)^m (Golovin and Zhang 2020), up to a factor; what
    is foretold is drawn from, all configs alike.
    """

    def __init__(self, points: Floats, scale: Scale, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._scale, self._goals = scale, len(scale.names)
        self._normal = rng.standard_normal((NUM_SAMPLES, 1, self._goals))
        self._ways = _directions(self._goals, rng)
        self._held = self._depth(points).max(axis=0) if len(points) else np.zeros(NUM_DIRECTIONS)
        self.volume = float(self._held.mean())

    def expected(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the volume that each config is expected to add."""
        found: Floats = self._added(means, deviations).mean(axis=(0, 2))
        return found

    def front_probability(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the chance of each config to add anything: to be on the front."""
        found: Floats = (self._added(means, deviations) > 0.0).any(axis=2).mean(axis=0)
        return found

    def _added(self, means: Floats, deviations: Floats) -> Floats:
        """Returns what each config adds, `[draws, configs, directions]`."""
        found: Floats = np.maximum(self._depth(means + deviations * self._normal) - self._held, 0.0)
        return found

    def _depth(self, points: Floats) -> Floats:
        room = self._scale.above_reference(points)
        least = reduce(np.minimum, (room[..., i, None] / self._ways[:, i] for i in range(self._goals)))
        found: Floats = least**self._goals
        return found


def _directions(goals: int, rng: np.random.Generator) -> Floats:
    """Returns directions in the positive corner: evenly spread for two objectives, drawn for more."""
    if goals == 2:
        angles = (np.arange(NUM_DIRECTIONS) + 0.5) / NUM_DIRECTIONS * math.pi / 2.0
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = np.abs(rng.standard_normal((NUM_DIRECTIONS, goals)))
    found: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class Scale:
    """From where each objective's improvement counts, which way, and what is one unit of it."""

    names: tuple[str, ...]
    signs: Floats
    reference: Floats
    unit: Floats

    @classmethod
    def of(cls, names: Sequence[str], signs: Sequence[float], points: Floats, limits: Mapping[str, float]) -> Scale:
        """Returns the scale of a study: an objective counts from its limit, or from the worst value seen."""
        real = np.stack([improvement_scale(name, points[:, i]) for i, name in enumerate(names)], axis=1)
        turned = real * np.array(signs)
        worst = turned.min(axis=0)
        for i, name in enumerate(names):
            if name in limits:
                worst[i] = signs[i] * (limits[name] if name == "accuracy" else transform(name, limits[name]))
        counted = turned[(turned > worst + WORTH * (turned.max(axis=0) - worst)).all(axis=1)]
        best = (counted if len(counted) else turned).max(axis=0)
        return cls(tuple(names), np.array(signs), worst, np.maximum(best - worst, 1e-6))

    def above_reference(self, points: Floats) -> Floats:
        """Returns how far points are above the reference, in units; 0 for what is below."""
        real = np.stack([improvement_scale(name, points[..., i]) for i, name in enumerate(self.names)], axis=-1)
        found: Floats = np.maximum((real * self.signs - self.reference) / self.unit, 0.0)
        return found
