"""Encoding of configs as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from config.distributions import Categorical, Distribution
from results.pareto import Floats
from search.space.space import Space

PRIOR_BANDWIDTH = 0.15
"""Reach of a known config, as a share of the diagonal of the unit cube."""


class Encoder:
    """Maps configs to vectors: a coordinate in [0, 1] for each numeric key, a simplex corner for each other option."""

    def __init__(self, space: Space) -> None:
        self._columns: list[tuple[str, Callable[[Any], list[float]]]] = []
        for key, distribution in space.keys.items():
            self._columns.append((key, _coordinates(distribution)))
            for opened in distribution.conditional if isinstance(distribution, Categorical) else ():
                self._columns += ((name, _coordinates(inner)) for name, inner in opened.items())
        self.groups = [group for group, (_, encode) in enumerate(self._columns) for _ in encode(None)]
        """The position of the key of each coordinate."""

    def __call__(self, configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns the vectors `[N, width]` of N configs."""
        return np.array([self._encode(values) for values in configs])

    def similarity(self, known: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns the similarity `[N]` of N configs to the nearest known one: 1 for itself, falling to 0."""
        if not known or not configs:
            return np.zeros(len(configs))
        difference = self(configs)[:, None, :] - self(known)[None, :, :]
        return np.asarray(np.exp(-0.5 * (difference**2).mean(axis=2).min(axis=1) / PRIOR_BANDWIDTH**2))

    def _encode(self, values: Mapping[str, Any]) -> list[float]:
        return [x for key, encode in self._columns for x in encode(values.get(key))]


def _coordinates(distribution: Distribution) -> Callable[[Any], list[float]]:
    """Returns a function that encodes a value of one key; an absent number is encoded as the middle of its range."""
    if not isinstance(distribution, Categorical):
        return lambda value: [distribution.to_unit(value) if distribution.contains(value) else 0.5]
    options = distribution.options
    if not all(isinstance(option, int | float) and not isinstance(option, bool) for option in options):
        return lambda value: [math.sqrt(0.5) * (option == value) for option in options]
    ranks = {option: i / max(len(options) - 1, 1) for i, option in enumerate(sorted(options))}
    return lambda value: [ranks.get(value, 0.5) if isinstance(value, int | float) else 0.5]
