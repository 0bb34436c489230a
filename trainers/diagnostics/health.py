"""Health rules: pure decisions on measured activities and gradients, which end a training that cannot learn.

A layer that is silent, dead, saturated or without gradient is blocked. The training ends when every path from the input
to the output passes a layer that was blocked in all checks of the last `PATIENCE` batches, as small networks recover
from shorter faults. If no weights before the blocked neurons receive a gradient, nothing can unblock them, and two
checks in a row are enough. A branch with a shortcut around it, such as the attention at the start of a training, may be
blocked.
"""

from __future__ import annotations

import itertools
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
SMALLEST_GRADIENT = 1e-6
"""Norm up to which a gradient moves no weights: a value of it is then below AdamW's epsilon of 1e-8 in most layers."""

PATIENCE = 100
"""Batches that a fault lasts before it ends a training whose gradients may still repair it."""
EARLY_BATCHES = frozenset({1, 4, *range(30, 151, 30)})
"""Checked batches of a training, counted from one. The second one finds networks that are silent from the start."""
CHECK_INTERVAL = 10
"""Minimum batches between two ends of epochs whose last batch is checked, so that checks cost little."""

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


Since = tuple[FailureClass, int]
"""The failure class of a fault, and the batch of the first check in a row that found it."""


@dataclass
class Health:
    """Health checks of a training: a fault that lasts on every path to the output ends it.

    `routes` are the layers that feed each layer; without them every layer is on the way to the output. Rates are shares
    of the `levels` spikes that a neuron can emit in a step. Batches are counted from one over the whole training.
    """

    routes: Routes | None = None
    levels: int = 1
    patience: int = PATIENCE
    """Batches that a fault may last while gradients reach the weights before it."""
    last_faults: dict[str, dict[str, Since]] = field(default_factory=dict)
    """The faulty layers at the last check of each type."""

    def is_due(self, batch: int, batches: int) -> bool:
        """Returns whether a batch is checked; an epoch has `batches`."""
        if batch in EARLY_BATCHES:
            return True
        return batch % batches == 0 and batch // CHECK_INTERVAL > (batch - batches) // CHECK_INTERVAL

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]], batch: int) -> None:
        """Checks the evaluation after a batch. Raises TrainingFailure: `diverged` at once, others if they last."""
        check_finite(metrics)
        rates = {row["name"]: Activity(row["spike_rate"]) for row in layers if "spike_rate" in row}
        faults = self._neuron_faults(rates)
        self._end_if_blocked(faults, self._durations("evaluation", faults, batch), self.patience)

    def check_batch(self, activities: Mapping[str, Activity], gradients: Mapping[str, float], batch: int) -> None:
        """Checks a training step in the same way; `gradients` are the norms by layer."""
        neurons, weights = self._neuron_faults(activities), gradient_faults(gradients)
        durations = self._durations("training", neurons, batch)
        barrier = self._barrier(durations)
        is_hopeless = barrier is not None and self._is_beyond_repair(barrier, gradients)
        self._end_if_blocked(neurons, durations, 0 if is_hopeless else self.patience)
        self._end_if_blocked(weights, self._durations("gradient", weights, batch), self.patience)

    def _neuron_faults(self, activities: Mapping[str, Activity]) -> dict[str, Fault]:
        found = {name: find_fault(activity, self.levels) for name, activity in activities.items()}
        return {name: fault for name, fault in found.items() if fault is not None}

    def _durations(self, check: str, faults: Mapping[str, Fault], batch: int) -> dict[str, int]:
        """Returns the batches for which the faults have lasted, of those found by the last check of this type too."""
        last = self.last_faults.get(check, {})
        now = {name: (kind, batch) for name, (kind, _) in faults.items()}
        lasting = {name: last[name] for name, (kind, _) in now.items() if name in last and last[name][0] == kind}
        self.last_faults[check] = now | lasting
        return {name: batch - since for name, (_, since) in lasting.items()}

    def _end_if_blocked(self, faults: Mapping[str, Fault], durations: Mapping[str, int], patience: int) -> None:
        name = self._barrier([name for name, duration in durations.items() if duration >= patience])
        if name is not None:
            failure_class, sentence = faults[name]
            raise TrainingFailure(failure_class, f"{name} {sentence}")

    def _barrier(self, blocked: Iterable[str]) -> str | None:
        return next(iter(blocked), None) if self.routes is None else first_barrier(self.routes, blocked)

    def _is_beyond_repair(self, barrier: str, gradients: Mapping[str, float]) -> bool:
        """Returns whether no weights computed before a layer have a gradient; without routes, no weights at all."""
        largest = max(SMALLEST_GRADIENT, max(gradients.values(), default=0.0) / GRADIENT_RATIO)
        before = itertools.takewhile(lambda name: name != barrier, gradients if self.routes is None else self.routes)
        return all(gradients.get(name, 0.0) <= largest for name in before)


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
