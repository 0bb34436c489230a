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
    def is_at_chance(self) -> bool:
        """Returns whether the accuracy is no better than a guess would reach."""
        return bool(self.read_outs) and self.metrics["accuracy"] <= self.read_outs[0]["chance"]


OnEpoch = Callable[[EpochMetrics], None]
