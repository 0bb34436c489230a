"""Which trainings make no progress: no epoch for ten times as long as an epoch takes. Pure: its caller tells the time.

Time that the driver slept through is not held against the trials, whose reports wait for it to wake up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from statistics import median

EPOCHS = 10
AT_LEAST_S = 120.0
"""A training stands still that has reported nothing for so many median epochs, and at least so many seconds."""
UNKNOWN_S = 3600.0
"""Seconds until a first epoch must have come while none of the search has ever come."""
POLL_S = 5.0
"""The most that passes between two looks of a driver that is awake."""
REMEMBERED = 200
"""Epochs from which the medians are taken; medians of all epochs of a long search would cost more each time."""


@dataclass
class _Watched:
    since: float
    epochs: int
    own: deque[float]


class Watchdog:
    """Knows when each running training last reported, by any key; times in seconds of one clock that never jumps."""

    def __init__(self, at_least_s: float = AT_LEAST_S) -> None:
        self.at_least_s = at_least_s
        self._running: dict[Hashable, _Watched] = {}
        self._first: deque[float] = deque(maxlen=REMEMBERED)
        self._later: deque[float] = deque(maxlen=REMEMBERED)
        self._awake_s = 0.0
        self._last_look: float | None = None

    def started(self, key: Hashable, now: float) -> None:
        """Notes that a training has begun, for the first time or again."""
        self._running[key] = _Watched(self._awake_time(now), 0, deque(maxlen=REMEMBERED))

    def reported(self, key: Hashable, now: float) -> None:
        """Notes the end of an epoch. A first one includes the start-up, and is compared with first ones only."""
        watched, at = self._running.get(key), self._awake_time(now)
        if watched is None:  # given up a moment ago
            return
        took, watched.since = at - watched.since, at
        watched.epochs += 1
        if watched.epochs == 1:
            self._first.append(took)
        else:
            watched.own.append(took)
            self._later.append(took)

    def ended(self, key: Hashable) -> None:
        """Forgets a training."""
        self._running.pop(key, None)

    def stalled(self, now: float) -> dict[Hashable, float]:
        """Returns the trainings that stand still, and for how many seconds."""
        at = self._awake_time(now)
        silent = {key: at - watched.since for key, watched in self._running.items()}
        return {
            key: seconds
            for key, seconds in silent.items()
            if seconds > self.at_least_s and seconds > self._limit(self._running[key])
        }

    def _limit(self, watched: _Watched) -> float:
        """Returns the seconds after which a training stands still: by its own epochs, else by those of all."""
        if watched.epochs:
            known = watched.own or self._later or self._first
        else:
            known = self._first
        return max(self.at_least_s, EPOCHS * median(known)) if known else UNKNOWN_S

    def _awake_time(self, now: float) -> float:
        """Returns the seconds that the driver has been awake."""
        if self._last_look is not None:
            self._awake_s += min(now - self._last_look, POLL_S)
        self._last_look = now
        return self._awake_s
