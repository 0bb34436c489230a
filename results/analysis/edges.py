"""Edges of the space at which the values of the front, or of failures, crowd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from config.distributions import Float, Integer
from results.keys import Key, axes_of_keys, label
from results.metrics import format_number
from results.study import StudyResult, TrialResult

EDGE_WIDTH = 0.05
"""Outer share of a range that counts as its edge."""

MIN_SHARE = 0.5
MIN_TRIALS = 2
MIN_OPTIONS = 3
MIN_FAILURES = 3
MIN_SEPARATION = 0.8
"""Share of the pairs (failed trial, other trial) that a key must put in the same order to be named for a failure
class."""


@dataclass(frozen=True)
class Edge:
    """A key at one end of which `count` of the front's `total` trials lie."""

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


@dataclass(frozen=True)
class FailureRegion:
    """A key at one end of which the failures of a class crowd, with the medians of these and of the other trials."""

    key: str
    end: str
    failed: float
    others: float

    def __str__(self) -> str:
        failed, others = format_number(self.failed), format_number(self.others)
        return f"{self.end} {self.key} (median {failed}; of the other trials {others})"


def edges(study: StudyResult) -> list[Edge]:
    """Returns the ordered keys with at least half of the front's trials, and at least two, at one end."""
    numbers = dict.fromkeys(point.trial for point in study.front())
    trials = [study.trial(number) for number in numbers]
    found = []
    for key in axes_of_keys(study):
        values = [trial.params[key.name] for trial in trials if key.name in trial.params]
        if key.is_ordered and (not key.options or len(key.options) >= MIN_OPTIONS):
            found += _crowded_ends(key, values)
    return found


def failure_regions(study: StudyResult, failure_class: str) -> list[FailureRegion]:
    """Returns the keys at one end of which failures of a class crowd, the clearest first.

    A key is clear if it separates failed from other trials in four of five pairs (Mann-Whitney U). Fewer than three
    failures give no key.
    """
    failed = study.failures().get(failure_class, [])
    others = [trial for trial in study.trials if trial.state != "failed"]
    found: list[tuple[float, FailureRegion]] = []
    for key in axes_of_keys(study):
        bad, good = _numbers(key, failed), _numbers(key, others)
        if not key.is_ordered or len(bad) < MIN_FAILURES or not good:
            continue
        above = sum((b > g) + (b == g) / 2 for b in bad for g in good) / (len(bad) * len(good))
        separation, end = max((above, "high"), (1 - above, "low"))
        if separation >= MIN_SEPARATION:
            found.append((separation, FailureRegion(key.name, end, median(bad), median(good))))
    return [region for _, region in sorted(found, key=lambda pair: -pair[0])]


def _crowded_ends(key: Key, values: Sequence[Any]) -> list[Edge]:
    ends = key.range
    if isinstance(ends, Integer) and ends.high - ends.low < MIN_OPTIONS - 1:
        return []
    low, *_, high = sorted(key.options) if ends is None else (_bound(ends.low), _bound(ends.high))
    found = []
    for end, bound in (("low", low), ("high", high)):
        count = sum(_is_at(key, value, bound) for value in values)
        if count >= MIN_TRIALS and count >= MIN_SHARE * len(values):
            found.append(Edge(key.name, end, label(bound), count, len(values)))
    return found


def _bound(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _is_at(key: Key, value: Any, bound: Any) -> bool:
    if not isinstance(key.range, Float):
        return bool(value == bound)
    position, end = key.position(value), key.position(bound)
    return position is not None and end is not None and abs(position - end) <= EDGE_WIDTH


def _numbers(key: Key, trials: Sequence[TrialResult]) -> list[float]:
    values = [trial.params.get(key.name) for trial in trials]
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
