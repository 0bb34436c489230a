"""Encoding of configs as vectors for the surrogate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from config.distributions import Categorical, Distribution
from results.pareto import Floats
from search.space.space import Space


class Encoder:
    """Turns values into vectors: a place from 0 to 1 for each number, a corner of a simplex for each other option."""

    def __init__(self, space: Space) -> None:
        self.columns: list[tuple[str, Distribution]] = []
        for key, domain in space.keys.items():
            self.columns.append((key, domain))
            for opened in domain.conditional if isinstance(domain, Categorical) else ():
                self.columns += [(inner, other) for inner, other in opened.items()]

        self.width = sum(len(_encode(domain, None)) for _, domain in self.columns)
        """The length of a vector."""
        self._known: dict[str, list[float]] = {}

    def __call__(self, configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns the vectors `[n, columns]` of configs."""
        return np.array([self._vector(values) for values in configs])

    def _vector(self, values: Mapping[str, Any]) -> list[float]:
        name = repr(values)
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            found = [x for key, domain in self.columns for x in _encode(domain, values.get(key))]
            self._known[name] = found
        return found


def _encode(domain: Distribution, value: Any) -> list[float]:
    if not isinstance(domain, Categorical):
        return [domain.to_unit(value) if domain.contains(value) else 0.5]
    numbers = [option for option in domain.options if isinstance(option, int | float) and not isinstance(option, bool)]
    if len(numbers) == len(domain.options):
        places = {option: i / max(len(numbers) - 1, 1) for i, option in enumerate(sorted(numbers))}
        return [places.get(value, 0.5) if isinstance(value, int | float) else 0.5]
    return [math.sqrt(0.5) * (option == value) for option in domain.options]


MOST_KEPT = 10_000
"""Configs whose vectors are kept, to be made once."""
