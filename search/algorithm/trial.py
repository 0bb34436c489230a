"""What is kept of each trial and of the study's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from search.algorithm.samplers import Suggestion


TrialStatus = Literal["running", "paused", "complete", "stopped", "failed"]

ALIVE = ("running", "paused")
"""States of a trial that has not ended."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do next: a trial, its searched values, and the epochs that it has been trained already.

    A further seed of a config is a trial of its own, and says of which; `waited` says that the trial was on hold.
    """

    number: int
    values: dict[str, Any]
    epoch: int
    seed_of: int | None = None
    was_paused: bool = False


@dataclass
class Trial:
    """What the policy knows of one trial.

    `epochs` holds the metrics after each epoch, in their order; `at_chance` are the epochs after which it was no better
    than a guess; `read_outs` are those of a full training; `seed_of` is the trial whose config it repeats with another
    seed; `refused` is why it was not trained; `retried` are the classes of failure after which it was tried again.
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
    infeasible: str | None = None
    retried: set[str] = field(default_factory=set)

    @property
    def epoch(self) -> int:
        """Returns how many epochs it has been trained."""
        return next(reversed(self.epochs), 0)
