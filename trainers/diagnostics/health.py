"""Health rules: pure decisions on measured activities and gradients, which end a training that cannot learn.

A layer that is silent, dead, saturated or without gradient in two checks in a row is blocked. The training ends when
every path from the input to the output passes a blocked layer. A branch with a shortcut around it, such as the
attention at the start of a training, may be blocked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SILENT_RATE = 1e-3
"""Spikes per neuron and step below which a layer is silent."""
SATURATED_RATE = 0.9
"""Mean rate, or share of neurons that fire at every step, above which a layer is saturated."""
DEAD_SHARE = 0.98
"""Share of units without a single spike in a check above which a layer is dead."""
GRADIENT_RATIO = 1e6
"""A layer whose gradient is smaller than the largest one by more than this does not learn."""

EARLY_BATCHES = frozenset({1, 4, *range(30, 151, 30)})
"""Checked batches of a training, counted from one. The second one finds networks that are silent from the start."""
CHECK_INTERVAL = 60
"""Minimum batches between two checked ends of epochs: some networks recover from a shorter silence."""

INPUT, OUTPUT = "<input>", "<output>"
Routes = Mapping[str, frozenset[str]]
"""The layers that feed each layer, and the output, directly; in the order of computation."""

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
    """Raised to end a training; the text names the layer or value."""

    def __init__(self, failure_class: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure_class = failure_class

    def __reduce__(self) -> tuple[type[TrainingFailure], tuple[FailureClass, str]]:
        return type(self), (self.failure_class, str(self))


@dataclass(frozen=True)
class Activity:
    """Activity of a neuron layer in one batch: mean rate, and the shares of units that fired never and always."""

    rate: float
    never: float = 0.0
    always: float = 0.0


Fault = tuple[FailureClass, str]
"""The failure class, and a predicate about the layer."""


def find_fault(activity: Activity, levels: int = 1) -> Fault | None:
    """Returns the fault of a neuron layer, if any; its neurons emit up to `levels` spikes per step."""
    if activity.rate * levels < SILENT_RATE:
        return "silent", f"emits fewer than {SILENT_RATE} spikes per neuron and step"
    if activity.never > DEAD_SHARE:
        return "dead_layer", f"has {activity.never:.1%} of units that never fire"
    if activity.rate > SATURATED_RATE or activity.always > SATURATED_RATE:
        return "saturated", f"fires all the time (rate {activity.rate:.2f}, at every step {activity.always:.1%})"
    return None


def gradient_faults(norms: Mapping[str, float]) -> dict[str, Fault]:
    """Returns the layers whose gradient is zero, or too small relative to the largest.

    Raises TrainingFailure of class `diverged` if one is not finite.
    """
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise TrainingFailure("diverged", f"the gradient of {name} is {norm}")
    largest = max(norms.values(), default=0.0)
    return {
        name: ("no_gradient", f"has a gradient of {norm:.2g}, where the largest is {largest:.2g}")
        for name, norm in norms.items()
        if norm * GRADIENT_RATIO <= largest
    }


@dataclass
class Health:
    """Health checks of a training; a fault that lasts for two checks of one type ends the training.

    `routes` are the layers that feed each layer; without them every layer is on the way to the output. Rates are shares
    of the `levels` spikes that a neuron can emit in a step.
    """

    routes: Routes | None = None
    levels: int = 1
    last_faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """The faulty layers and their failure classes at the last check of each type."""

    def is_due(self, batch: int, batches: int) -> bool:
        """Returns whether a batch, counted from one over the whole training, is checked; an epoch has `batches`."""
        if batch < max(EARLY_BATCHES) + CHECK_INTERVAL:
            return batch in EARLY_BATCHES
        return batch % batches == 0 and self.is_check(batch // batches, batches)

    def is_check(self, epoch: int, batches: int) -> bool:
        """Returns whether the end of an epoch, counted from one, is a check: it passed a multiple of the interval."""
        return epoch * batches // CHECK_INTERVAL > (epoch - 1) * batches // CHECK_INTERVAL

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]], is_check: bool = True) -> None:
        """Checks an evaluation. Raises TrainingFailure: `diverged` at once, others at the second check in a row."""
        check_finite(metrics)
        if is_check:
            rates = {row["name"]: Activity(row["spike_rate"]) for row in layers if "spike_rate" in row}
            self._update("evaluation", self._neuron_faults(rates))

    def check_batch(self, activities: Mapping[str, Activity], gradients: Mapping[str, float]) -> None:
        """Checks a training step in the same way; `gradients` are the norms by layer."""
        self._update("training", self._neuron_faults(activities))
        self._update("gradient", gradient_faults(gradients))

    def _neuron_faults(self, activities: Mapping[str, Activity]) -> dict[str, Fault]:
        found = {name: find_fault(activity, self.levels) for name, activity in activities.items()}
        return {name: fault for name, fault in found.items() if fault is not None}

    def _update(self, check: str, faults: Mapping[str, Fault]) -> None:
        last = self.last_faults.get(check, {})
        lasting = [name for name, (failure_class, _) in faults.items() if last.get(name) == failure_class]
        self.last_faults[check] = {name: failure_class for name, (failure_class, _) in faults.items()}
        name = next(iter(lasting), None) if self.routes is None else first_barrier(self.routes, lasting)
        if name is not None:
            failure_class, sentence = faults[name]
            raise TrainingFailure(failure_class, f"{name} {sentence}")


def first_barrier(routes: Routes, blocked: Iterable[str]) -> str | None:
    """Returns the first blocked layer that the input reaches, if every path to the output passes a blocked layer."""
    blocked, reached = frozenset(blocked), {INPUT}
    barrier = None
    for name, sources in routes.items():
        if reached.isdisjoint(sources):
            continue
        if name in blocked:
            barrier = barrier or name
        else:
            reached.add(name)
    return None if OUTPUT in reached else barrier


def check_finite(metrics: dict[str, float]) -> None:
    """Raises TrainingFailure of class `diverged` for the first metric that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingFailure("diverged", f"{name} is {value}")


def chance_level(images_by_class: Sequence[int]) -> float:
    """Returns the chance level in percent: the share of the largest class plus two binomial standard errors.

    A network that always answers the largest class reaches that share. With few images the level may exceed 100: then
    no accuracy differs from a guess.
    """
    images = sum(images_by_class)
    p = max(images_by_class) / images
    return 100.0 * (p + 2.0 * math.sqrt(p * (1.0 - p) / images))
