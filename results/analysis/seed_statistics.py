"""Statistics over seeds: pooled deviations, and how often resampled means are on the Pareto front.

A sample holds one point per seed: its objectives, to be minimised.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from results import pareto
from results.pareto import Floats
from results.study import FrontPoint, StudyResult
from results.study.seeds import ReadOut

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


def study_front_shares(study: StudyResult, resamples: int = 500) -> dict[ReadOut, float]:
    """Returns the share of resamples of the seeds in which each read-out is on the front.

    Empty if no point of the front has several seeds. Read-outs that are never on the front may be left out.
    """
    if not any(point.seeds > 1 for point in study.front()):
        return {}
    samples: dict[ReadOut, list[tuple[float, ...]]] = {}
    violations: dict[ReadOut, list[list[float]]] = {}
    for point in study.read_outs():
        seeds = [replace(point, metrics={**point.metrics, **metrics}) for metrics in study.metrics_by_seed(point)]
        rows = [study.values(seed) for seed in seeds if study.objectives.keys() <= seed.metrics.keys()]
        if len(rows) == len(seeds) and np.isfinite(_array(rows)).all():
            samples[point.read_out] = rows
            violations[point.read_out] = [_excess(study, seed) for seed in seeds]
    possible = _possible(samples, violations)
    return front_shares({key: samples[key] for key in possible}, violations, resamples)


def _excess(study: StudyResult, point: FrontPoint) -> list[float]:
    """Returns by how much a point exceeds the constraints and falls below chance."""
    found = [point.metrics.get("chance", -math.inf) - point.metrics.get("accuracy", math.inf)]
    for name, limits in study.constraints.items():
        value = point.metrics.get(name, math.nan)
        found += [limits.get("min", -math.inf) - value, value - limits.get("max", math.inf)]
    return found


def _possible(samples: Mapping[Key, Sample], violations: Mapping[Key, Sample]) -> list[Key]:
    """Returns the points that no feasible one beats in all objectives whatever the seeds."""
    feasible = [key for key in samples if np.all(_array(violations[key]) <= 0)]
    if not feasible:
        return list(samples)
    worst = np.stack([_array(samples[key]).max(axis=0) for key in feasible])
    return [key for key, rows in samples.items() if not (worst < _array(rows).min(axis=0)).all(axis=1).any()]


def _array(sample: Sample) -> Floats:
    return np.asarray(sample, dtype=np.float64)
