"""Statistics over seeds: pooled deviations, and how often resampled means are on the Pareto front.

A sample holds one point per seed: its objectives, to be minimised.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from results import pareto
from results.pareto import Floats

Key = TypeVar("Key", bound=Hashable)
Sample = Sequence[Sequence[float]]


def pooled_deviations(samples: Iterable[Sample]) -> tuple[Floats, int]:
    """Returns each objective's standard deviation over seeds, pooled over all points, and its degrees of freedom."""
    repeated = [_array(sample) for sample in samples if len(sample) > 1]
    degrees = sum(len(sample) - 1 for sample in repeated)
    if not degrees:
        return np.zeros(0), 0
    squares = sum(((sample - sample.mean(axis=0)) ** 2).sum(axis=0) for sample in repeated)
    return np.sqrt(squares / degrees), degrees


def front_shares(
    samples: Mapping[Key, Sample], violations: Mapping[Key, Sample], resamples: int = 2000, seed: int = 0
) -> dict[Key, float]:
    """Returns the share of bootstrap resamples of the seeds in which each point's mean is on the front of all means.

    `violations` hold, per seed, by how much each bound is exceeded. A point whose mean exceeds one is not on the front.
    """
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(samples, 0)
    arrays = {key: (_array(sample), _array(violations[key])) for key, sample in samples.items()}
    for _ in range(resamples if samples else 0):
        chosen = {key: rng.integers(len(values), size=len(values)) for key, (values, _) in arrays.items()}
        means = {
            key: values[chosen[key]].mean(axis=0)
            for key, (values, excess) in arrays.items()
            if np.all(excess[chosen[key]].mean(axis=0) <= 0)
        }
        for key, is_on_front in zip(means, pareto.non_dominated(list(means.values())), strict=True):
            counts[key] += bool(is_on_front)
    return {key: count / resamples for key, count in counts.items()}


def _array(sample: Sample) -> Floats:
    return np.asarray(sample, dtype=np.float64)
