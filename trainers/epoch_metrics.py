"""What a training tells of itself after each epoch. No torch here: a driver that only listens starts without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochMetrics:
    """What is known after `epoch` finished epochs: metrics at read_step, those of every read-out, and a row a layer."""

    epoch: int
    metrics: dict[str, float]
    read_outs: list[dict[str, float]]
    layers: list[dict[str, Any]]

    @property
    def at_step(self) -> dict[str, float]:
        """Returns the metrics after all of the `step` steps, which trials are compared by: the last read-out's."""
        last = self.read_outs[-1] if self.read_outs else {}
        return {name: last.get(name, value) for name, value in self.metrics.items()}

    @property
    def is_at_chance(self) -> bool:
        """Returns whether the accuracy is no better than a guess would reach."""
        return bool(self.read_outs) and self.metrics["accuracy"] <= self.read_outs[0]["chance"]


OnEpoch = Callable[[EpochMetrics], None]
