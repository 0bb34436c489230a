"""Report of a training after each epoch; imports no torch, which a driver does without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochMetrics:
    """Result of `epoch` finished epochs: metrics at read_step, those of every read-out, and a row per layer."""

    epoch: int
    metrics: dict[str, float]
    read_outs: list[dict[str, float]]
    layers: list[dict[str, Any]]

    @property
    def at_step(self) -> dict[str, float]:
        """Returns the metrics of the last read-out, after all `step` steps, by which trials are compared."""
        last = self.read_outs[-1] if self.read_outs else {}
        return {name: last.get(name, value) for name, value in self.metrics.items()}

    @property
    def chance(self) -> float | None:
        """Returns the chance level of the measured part, in percent, or None if it is unknown."""
        return self.read_outs[0].get("chance") if self.read_outs else None

    @property
    def is_at_chance(self) -> bool:
        """Returns whether the accuracy, if there is one, is no better than guessing the largest class."""
        return self.metrics.get("accuracy", math.inf) <= (-math.inf if self.chance is None else self.chance)


OnEpoch = Callable[[EpochMetrics], None]
