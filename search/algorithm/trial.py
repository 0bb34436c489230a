"""Trials of a search: suggestion, assignment to a worker, state and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from results.study import TrialStatus

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

ALIVE = ("running", "paused")
"""States of a trial that has not ended."""

Decision = Literal["continue", "pause", "stop", "complete"]


@dataclass(frozen=True)
class Suggestion:
    """A suggested config: the values of its active keys, and the same as Optuna stores them."""

    values: dict[str, Any]
    parameters: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    sampler_attrs: dict[str, Any] = field(default_factory=dict)
    """System attributes that the sampler reads back from a trial (NSGA's generation)."""


@dataclass(frozen=True)
class Assignment:
    """The next job of a worker: start or resume trial `number`, which has been trained for `epoch` epochs.

    `seed_of` is the trial whose config it repeats with another seed.
    """

    number: int
    values: dict[str, Any]
    epoch: int
    seed_of: int | None = None
    was_paused: bool = False


@dataclass
class Trial:
    """The scheduler's view of one trial.

    `epochs` maps each epoch to its metrics, in order; `at_chance` holds the epochs after which accuracy was no better
    than chance; `read_outs` are those of a full training. `seed_of` is the trial whose config it repeats with another
    seed. `retried` holds the classes of failure after which it was retried.
    """

    number: int
    suggestion: Suggestion
    config: dict[str, Any]
    state: TrialStatus = "running"
    failure_class: str | None = None
    reason: str | None = None
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    source: str = "sampler"
    at_chance: set[int] = field(default_factory=set)
    read_outs: list[dict[str, float]] = field(default_factory=list)
    seed_of: int | None = None
    retried: set[str] = field(default_factory=set)
    batch: tuple[int, int, int] | None = None
    """The latest report from within an epoch: the epoch, the batch and the number of batches. It is not stored."""

    @property
    def epoch(self) -> int:
        """Returns the number of epochs trained."""
        return next(reversed(self.epochs), 0)

    @property
    def infeasible(self) -> str | None:
        """Returns why the config was refused before training, or None."""
        return self.reason if self.failure_class == "infeasible" else None

    @property
    def is_counted(self) -> bool:
        """Returns whether a budget in trials counts it: not if it was refused or repeats a config."""
        return self.failure_class != "infeasible" and self.seed_of is None
