"""What is wrong with a network that should not go on training. Pure: it judges numbers that others measured.

A layer that is found silent, dead, saturated or without gradient in two checks running passes nothing on. That ends the
training when no way from the input to the output is left that avoids such layers: a branch that a shortcut goes around
(the attention's neurons at the start, say) may rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SILENT_RATE = 1e-3
"""Spikes per neuron and step below which a layer passes nothing on."""
SATURATED = 0.9
"""Mean rate, or share of neurons that fire at every step, above which a layer says the same of every image."""
DEAD_SHARE = 0.98
"""Share of units without a single spike in a check above which a layer is dead."""
GRADIENT_RATIO = 1e6
"""A layer whose gradient is smaller than the largest one by more than this does not learn."""

EARLY_BATCHES = frozenset({1, 4, *range(30, 151, 30)})
"""Batches of a training, from one, that are looked at. The second one tells the nets that are silent from the start."""
APART = 60
"""Batches between two ends of epochs that are checks, at least about: some nets recover from a shorter silence."""

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
    """Training should end: `kind` is the class of failure, the text says which layer or value."""

    def __init__(self, kind: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureClass = kind

    def __reduce__(self) -> tuple[type[TrainingFailure], tuple[FailureClass, str]]:
        """Says how to make it again in another process."""
        return type(self), (self.kind, str(self))


@dataclass(frozen=True)
class Activity:
    """What a layer of neurons did in one batch: mean rate, and the shares of units that fired never and always."""

    rate: float
    never: float = 0.0
    always: float = 0.0


Fault = tuple[FailureClass, str]
"""The class, and what is said of the layer."""


def fault_of(activity: Activity, levels: int = 1) -> Fault | None:
    """Returns what is wrong with a layer of neurons, if anything; they give up to `levels` spikes a step."""
    if activity.rate * levels < SILENT_RATE:
        return "silent", f"emits fewer than {SILENT_RATE} spikes per neuron and step"
    if activity.never > DEAD_SHARE:
        return "dead_layer", f"has {activity.never:.1%} of units that never fire"
    if activity.rate > SATURATED or activity.always > SATURATED:
        return "saturated", f"fires all the time (rate {activity.rate:.2f}, at every step {activity.always:.1%})"
    return None


def gradient_faults(norms: Mapping[str, float]) -> dict[str, Fault]:
    """Returns the layers whose gradient is zero, or too small beside the largest; raises where one is not finite."""
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
    """Remembers what was wrong at the last check, while training and while evaluating; `routes` says what feeds what.

    Without routes every layer is on the way to the output. Rates are shares of the `levels` spikes that a neuron may
    give in a step.
    """

    routes: Routes | None = None
    levels: int = 1
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    """By kind of check: the layers with a fault, and its class."""

    def is_due(self, batch: int, batches: int) -> bool:
        """Returns whether a batch, counted from one over the whole training, is looked at; `batches` make an epoch."""
        if batch < max(EARLY_BATCHES) + APART:
            return batch in EARLY_BATCHES
        return batch % batches == 0 and self.is_judged(batch // batches, batches)

    def is_judged(self, epoch: int, batches: int) -> bool:
        """Returns whether the end of an epoch, counted from one, is a check: it has passed a multiple of APART."""
        return epoch * batches // APART > (epoch - 1) * batches // APART

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]], is_judged: bool = True) -> None:
        """Judges an evaluation: raises TrainingFailure, `diverged` at once, the others at the second check running."""
        check_finite(metrics)
        if not is_judged:
            return
        activities = {row["name"]: Activity(row["spike_rate"]) for row in layers if "spike_rate" in row}
        self._judge("evaluation", {name: fault_of(activity, self.levels) for name, activity in activities.items()})

    def check_batch(self, activities: Mapping[str, Activity], gradients: Mapping[str, float]) -> None:
        """Judges a step of training, likewise; `gradients` are the norms of each layer's."""
        self._judge("training", {name: fault_of(activity, self.levels) for name, activity in activities.items()})
        self._judge("gradient", dict(gradient_faults(gradients)))

    def _judge(self, kind: str, found: Mapping[str, Fault | None]) -> None:
        faults = {name: fault for name, fault in found.items() if fault is not None}
        before = self.before.get(kind, {})
        lasting = [name for name, (failure, _) in faults.items() if before.get(name) == failure]
        self.before[kind] = {name: failure for name, (failure, _) in faults.items()}
        name = next(iter(lasting), None) if self.routes is None else first_barrier(self.routes, lasting)
        if name is not None:
            failure, sentence = faults[name]
            raise TrainingFailure(failure, f"{name} {sentence}")


def first_barrier(routes: Routes, closed: Iterable[str]) -> str | None:
    """Returns the first closed layer that the input reaches, if every way to the output passes a closed layer."""
    shut, reached = frozenset(closed), {INPUT}
    barrier = None
    for name, sources in routes.items():
        if reached.isdisjoint(sources):
            continue
        if name in shut:
            barrier = barrier or name
        else:
            reached.add(name)
    return None if OUTPUT in reached else barrier


def check_finite(metrics: dict[str, float]) -> None:
    """Raises TrainingFailure of class `diverged` for the first metric that is not a finite number."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingFailure("diverged", f"{name} is {value}")


def chance_level(num_classes: int, images: int) -> float:
    """Returns the accuracy in percent that a fair guess stays below: 100/K plus two binomial standard errors."""
    p = 1.0 / num_classes
    return 100.0 * (p + 2.0 * math.sqrt(p * (1.0 - p) / images))
