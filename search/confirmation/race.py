"""Which points are truly on the front: means over seeds, a race that clear losers leave, and resampling. Pure.

Points are objectives to be minimised; a sample is one point for each seed that a network was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from results import pareto
from results.pareto import Floats

Key = TypeVar("Key", bound=Hashable)
Sample = Sequence[Sequence[float]]

LEVEL = 0.95
"""How sure a loss must be, on each objective, before a point leaves the race."""


def losers(samples: Mapping[Key, Sample], level: float = LEVEL) -> set[Key]:
    """Returns the points that another one beats in every objective by more than the noise of the difference.

    The noise is pooled over all points, as a few seeds of one say little: Student's t at `level` times
    s sqrt(1/n + 1/m). With one seed each there is no noise to go by, and nobody has lost.
    """
    deviations, freedom = pooled(samples.values())
    if freedom < 1:
        return set()
    from scipy.stats import t as student

    margin = float(student.ppf(level, freedom)) * deviations
    means = {key: np.mean(sample, axis=0) for key, sample in samples.items()}
    lost = set()
    for key, mean in means.items():
        for other, better in means.items():
            share = math.sqrt(1.0 / len(samples[key]) + 1.0 / len(samples[other]))
            if other != key and bool(np.all(better + margin * share < mean)):
                lost.add(key)
    return lost


def pooled(samples: Iterable[Sample]) -> tuple[Floats, int]:
    """Returns each objective's standard deviation over seeds, pooled over all points, and its degrees of freedom."""
    several = [np.asarray(sample, dtype=np.float64) for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in several)
    if not freedom:
        return np.zeros(0), 0
    squares = sum(((sample - sample.mean(axis=0)) ** 2).sum(axis=0) for sample in several)
    return np.sqrt(squares / freedom), freedom


def front_shares(samples: Mapping[Key, Sample], resamples: int = 2000, seed: int = 0) -> dict[Key, float]:
    """Returns the share of resamples of the seeds in which each point's mean is on the front of all means."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(samples, 0)
    arrays = {key: np.asarray(sample, dtype=np.float64) for key, sample in samples.items()}
    for _ in range(resamples):
        means = [rows[rng.integers(len(rows), size=len(rows))].mean(axis=0) for rows in arrays.values()]
        for key, good in zip(arrays, pareto.non_dominated(np.array(means)), strict=True):
            counts[key] += bool(good)
    return {key: count / resamples for key, count in counts.items()}
