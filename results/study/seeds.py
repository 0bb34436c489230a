"""Metrics over seeds, and the fresh seeds of `search.confirm` with its read of the test set.

`attrs["confirmed"]` holds one entry per training and read-out: `trial`, `read_step`, `exit` if it is an exit point,
`seed` and the metrics;
`attrs["tested"]["rows"]` the same of the test set. `attrs["confirmation"]` is written when a confirmation ends: the
`trials` that were complete then, and those that `failed` with a fresh seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from results.metrics import ALL_METRICS

ATTRS = ("confirmed", "confirmation", "tested")
"""Attributes of a study that a confirmation writes."""

ReadOut = tuple[int, int, int]
"""A trial, its read-out step, and the number of its exit point, 0 for none."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a metric over seeds; the deviation of a single seed is 0."""

    mean: float
    deviation: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + (f" \u00b1 {self.deviation:.2g} ({self.seeds} seeds)" if self.seeds > 1 else "")


Spreads = Mapping[str, Spread]


@dataclass(frozen=True)
class Confirmation:
    """Metrics over fresh seeds by read-out, on the validation part and on the test set.

    `compared` are the trials among which the confirmed front was sought; a trial that the search completed later counts
    by its own training.
    """

    validation: Mapping[ReadOut, Spreads] = field(default_factory=dict)
    test: Mapping[ReadOut, Spreads] = field(default_factory=dict)
    compared: frozenset[int] = frozenset()
    failed: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Confirmation:
        """Returns the confirmation that a study's attributes hold, empty if there is none."""
        end = attrs.get("confirmation") or {}
        return cls(
            spreads(attrs.get("confirmed") or ()),
            spreads((attrs.get("tested") or {}).get("rows") or ()),
            frozenset(end.get("trials") or ()),
            {int(number): str(reason) for number, reason in (end.get("failed") or {}).items()},
        )

    def is_unconfirmed(self, trial: int) -> bool:
        """Returns whether a trial was compared without a training of its config with each fresh seed."""
        return trial in self.compared and (trial in self.failed or trial not in self._retrained)

    @property
    def _retrained(self) -> set[int]:
        return {trial for trial, *_ in self.validation}


def spreads(rows: Iterable[Mapping[str, Any]]) -> dict[ReadOut, Spreads]:
    """Returns the spreads of the metrics by read-out; a row holds the metrics of one seed."""
    found: dict[ReadOut, dict[str, list[float]]] = {}
    for row in rows:
        values = found.setdefault(read_out_of(row), {})
        for name in ALL_METRICS:
            value = row.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                values.setdefault(name, []).append(float(value))
    return {read_out: {name: spread(v) for name, v in values.items()} for read_out, values in found.items()}


def read_out_of(row: Mapping[str, Any]) -> ReadOut:
    """Returns the read-out of a row with `trial`, `read_step` and, for an exit point, `exit`."""
    return int(row["trial"]), int(row["read_step"]), int(row.get("exit") or 0)


def spread(values: Sequence[float]) -> Spread:
    """Returns the mean and the standard deviation of at least one value."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else 0.0, len(values))
