"""Draws of samplers that take seconds, made while trials run.

The draw for a trial is made from what was known when the trial before it was opened. So it can begin at that moment,
and how long it takes makes no difference to what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from search.algorithm import samplers
from search.algorithm.samplers import Observation, Suggestion
from search.space.space import Space

SLOW = frozenset({"gp"})
"""Samplers that take more time than a driver's loop can wait."""

Later = Callable[[], Suggestion]
"""A draw that is asked for when it is needed."""


class Prefetcher:
    """The next trial's draw, begun early by whatever `submit` says; by itself it is made when it is asked for."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.submit: Callable[[Later], Later] = lambda work: work
        self._number = -1
        self._seen: Sequence[Observation] = ()
        self._coming: Later | None = None

    @property
    def is_started(self) -> bool:
        """Returns whether there is anything that the next draw is to be made from."""
        return self._coming is not None

    def start(self, number: int, seen: Sequence[Observation]) -> None:
        """Begins the draw for a trial from what is known now."""
        self._number, self._seen = number, seen
        self._coming = self.submit(partial(samplers.suggest, self.space, number, seen))

    def result(self, number: int, attempt: int) -> Suggestion:
        """Returns the draw for a trial, or another one in its place, from what was known when the last was begun."""
        if self._coming is not None and (number, attempt) == (self._number, 0):
            return self._coming()
        return samplers.suggest(self.space, number, self._seen, attempt)
