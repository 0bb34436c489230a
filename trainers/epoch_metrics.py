"""Report of a training after each epoch; imports no torch, which a driver does without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KEEPS_ACCURACY = 1
"""Number of the exit point that keeps the accuracy of all steps on the images of the calibration."""
EXIT_COSTS = ("steps", "spike_rate", "spikes", "synops", "macs", "energy_mj")
"""Metrics that depend on the steps that images run."""


@dataclass(frozen=True)
class EpochMetrics:
    """Result of `epoch` finished epochs: metrics at read_step, those of every read-out, and a row per layer.

    `exits` has a row per exit point, if images may exit early: the first one before the last epoch, then all.
    """

    epoch: int
    metrics: dict[str, float]
    read_outs: list[dict[str, float]]
    layers: list[dict[str, Any]]
    exits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def at_step(self) -> dict[str, float]:
        """Returns the metrics by which trials are compared: those of the last read-out, after all `step` steps.

        With exits, the costs are those of the exit point that keeps the accuracy of all steps.
        """
        last = self.read_outs[-1] if self.read_outs else {}
        kept = next((row for row in self.exits if row["exit"] == KEEPS_ACCURACY), {})
        last = {**last, **{name: kept[name] for name in EXIT_COSTS if name in kept}}
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
