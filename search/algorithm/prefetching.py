"""Prefetching: suggestions of slow samplers are computed while trials run.

The suggestion for a trial uses the observations at the moment when the previous trial started. It can therefore be
computed from then on, and its duration does not affect the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from search.algorithm import samplers
from search.algorithm.samplers import Observation
from search.algorithm.trial import Suggestion
from search.space.space import Space

SLOW = frozenset({"gp"})
"""Samplers that take seconds per suggestion."""

Result = Callable[[], Suggestion]
"""Returns a suggestion, and waits for it if necessary."""


class Prefetcher:
    """Computes the suggestion for the next trial, by default when it is needed."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.submit: Callable[[Result], Result] = lambda work: work
        """Starts work in the background."""
        self._number = -1
        self._history: Sequence[Observation] = ()
        self._result: Result | None = None

    @property
    def is_started(self) -> bool:
        return self._result is not None

    def start(self, number: int, history: Sequence[Observation]) -> None:
        """Starts the suggestion for a trial from the present observations."""
        self._number, self._history = number, history
        self._result = self.submit(partial(samplers.suggest, self.space, number, history))

    def result(self, number: int, attempt: int) -> Suggestion:
        """Returns the suggestion for a trial, or another one from the same observations."""
        if self._result is not None and (number, attempt) == (self._number, 0):
            return self._result()
        return samplers.suggest(self.space, number, self._history, attempt)
