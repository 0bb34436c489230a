"""Draws of samplers that take seconds, made while trials run.

The draw for a trial is made from what was known when the trial before it was opened. So it can begin at that moment,
and how long it takes makes no difference to what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from search.algorithm import samplers
from search.algorithm.samplers import Draw, Seen
from search.space.space import Space

SLOW = frozenset({"gp"})
"""Samplers that take more time than a driver's loop can wait."""

Later = Callable[[], Draw]
"""A draw that is asked for when it is needed."""


class Ahead:
    """The next trial's draw, begun early by whatever `submit` says; by itself it is made when it is asked for."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.submit: Callable[[Later], Later] = lambda work: work
        self._number = -1
        self._seen: Sequence[Seen] = ()
        self._coming: Later | None = None

    @property
    def is_begun(self) -> bool:
        """Returns whether there is anything that the next draw is to be made from."""
        return self._coming is not None

    def begin(self, number: int, seen: Sequence[Seen]) -> None:
        """Begins the draw for a trial from what is known now."""
        self._number, self._seen = number, seen
        self._coming = self.submit(partial(samplers.suggest, self.space, number, seen))

    def draw(self, number: int, attempt: int) -> Draw:
        """Returns the draw for a trial, or another one in its place, from what was known when the last was begun."""
        if self._coming is not None and (number, attempt) == (self._number, 0):
            return self._coming()
        return samplers.suggest(self.space, number, self._seen, attempt)
