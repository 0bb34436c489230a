"""What is wrong with a network that should not go on training, found at each evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

SILENT_RATE = 1e-3
"""Spikes per neuron and step below which a layer passes nothing on."""

FailureClass = Literal[
    "infeasible",
    "silent",
    "saturated",
    "dead_layer",
    "no_gradient",
    "diverged",
    "at_chance",
    "oom",
    "stalled",
    "killed",
    "error",
]


class TrainingFailure(RuntimeError):
    """Training should end: `kind` is the class of failure, the text says which layer or value."""

    def __init__(self, kind: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureClass = kind


@dataclass
class Health:
    """Remembers which layers were silent at the last check."""

    silent_before: frozenset[str] = field(default_factory=frozenset)

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]]) -> None:
        """Raises TrainingFailure: `diverged` at once, `silent` when a layer is silent in two checks running."""
        check_finite(metrics)
        silent = frozenset(row["name"] for row in layers if row.get("spike_rate", 1.0) < SILENT_RATE)
        for name in sorted(silent & self.silent_before):
            raise TrainingFailure("silent", f"{name} emits fewer than {SILENT_RATE} spikes per neuron and step")
        self.silent_before = silent


def check_finite(metrics: dict[str, float]) -> None:
    """Raises TrainingFailure of class `diverged` for the first metric that is not a finite number."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingFailure("diverged", f"{name} is {value}")


def chance_level(num_classes: int, images: int) -> float:
    """Returns the accuracy in percent that a fair guess stays below: 100/K plus two binomial standard errors."""
    p = 1.0 / num_classes
    return 100.0 * (p + 2.0 * math.sqrt(p * (1.0 - p) / images))
