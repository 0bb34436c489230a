"""Whether the best values lie at the edge of the space: then it should be widened there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.keys import Key, axes_of_keys, label
from results.study import StudyResult

NEAR = 0.05
"""The outer part of a range that counts as its edge."""
SHARE = 0.5
LEAST = 2
LEAST_OPTIONS = 3


@dataclass(frozen=True)
class Edge:
    """A key whose best values crowd at one end: how many of how many trials of the front."""

    key: str
    end: str
    bound: str
    count: int
    total: int

    def __str__(self) -> str:
        return (
            f"{self.key}: {self.count} of the front's {self.total} trials lie at its {self.end} end ({self.bound}); "
            f"the best values may be outside. Widen it there"
        )


def edges(study: StudyResult) -> list[Edge]:
    """Returns the ordered keys of which half of the front's trials, two at least, lie at one end."""
    numbers = dict.fromkeys(point.trial for point in study.front())
    trials = [study.trial(number) for number in numbers]
    found = []
    for key in axes_of_keys(study):
        values = [trial.params[key.name] for trial in trials if key.name in trial.params]
        if key.is_ordered and (not key.options or len(key.options) >= LEAST_OPTIONS):
            found += _crowded(key, values)
    return found


def _crowded(key: Key, values: Sequence[Any]) -> list[Edge]:
    ordered = sorted(key.options) if key.options else [_number(key, key.low), _number(key, key.high)]
    if not key.options and key.is_whole and key.high - key.low < LEAST_OPTIONS - 1:
        return []
    found = []
    for end, bound in (("low", ordered[0]), ("high", ordered[-1])):
        count = sum(_is_at(key, value, bound) for value in values)
        if count >= LEAST and count >= SHARE * len(values):
            found.append(Edge(key.name, end, label(bound), count, len(values)))
    return found


def _number(key: Key, value: float) -> float | int:
    return int(value) if key.is_whole or value == int(value) else value


def _is_at(key: Key, value: Any, bound: Any) -> bool:
    if key.options or key.is_whole:
        return bool(value == bound)
    position, end = key.position(value), key.position(bound)
    return position is not None and end is not None and abs(position - end) <= NEAR
