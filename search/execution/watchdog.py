"""Detection of stalled trials: no epoch for ten times as long as an epoch usually takes. The caller supplies the time.

Time during which the driver was suspended does not count, since reports cannot be processed then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from statistics import median

EPOCHS = 10
MIN_TIMEOUT_S = 120.0
"""A trial is stalled after this many median epochs without a report, and at least this many seconds."""
FIRST_TIMEOUT_S = 3600.0
"""Timeout of first epochs while no trial of the search has finished one."""
POLL_S = 5.0
"""The longest time between two calls of a driver that is not suspended."""
WINDOW = 200
"""Epochs in a median; a median over a long search would cost more with each epoch."""


def _durations() -> deque[float]:
    return deque(maxlen=WINDOW)


@dataclass
class _Watched:
    last_report: float
    has_reported: bool = False
    durations: deque[float] = field(default_factory=_durations)


class Watchdog:
    """Keeps the time of the last report of each running trial, by any key; times are of one monotonic clock, in s."""

    def __init__(self, min_timeout_s: float = MIN_TIMEOUT_S) -> None:
        self.min_timeout_s = min_timeout_s
        self._running: dict[Hashable, _Watched] = {}
        self._first, self._later = _durations(), _durations()
        self._active_s = 0.0
        self._last_call: float | None = None

    def start(self, key: Hashable, now: float) -> None:
        """Registers a trial that started or restarted."""
        self._running[key] = _Watched(self._active_time(now))

    def report(self, key: Hashable, now: float) -> None:
        """Registers the end of an epoch. First epochs include the start-up, so they have their own median."""
        watched, at = self._running.get(key), self._active_time(now)
        if watched is None:  # its process was just killed
            return
        duration, watched.last_report = at - watched.last_report, at
        if watched.has_reported:
            watched.durations.append(duration)
            self._later.append(duration)
        else:
            watched.has_reported = True
            self._first.append(duration)

    def remove(self, key: Hashable) -> None:
        """Removes a trial that ended."""
        self._running.pop(key, None)

    def stalled(self, now: float) -> dict[Hashable, float]:
        """Returns the stalled trials and the seconds since their last report."""
        at = self._active_time(now)
        silent = {key: at - watched.last_report for key, watched in self._running.items()}
        return {key: seconds for key, seconds in silent.items() if self._is_late(self._running[key], seconds)}

    def _is_late(self, watched: _Watched, seconds: float) -> bool:
        """Compares with the trial's own median epoch, or with that of all trials while it has none."""
        if seconds <= self.min_timeout_s:
            return False
        known = (watched.durations or self._later or self._first) if watched.has_reported else self._first
        return seconds > (max(self.min_timeout_s, EPOCHS * median(known)) if known else FIRST_TIMEOUT_S)

    def _active_time(self, now: float) -> float:
        """Returns the seconds that the driver has not been suspended."""
        if self._last_call is not None:
            self._active_s += min(now - self._last_call, POLL_S)
        self._last_call = now
        return self._active_s
