"""Settings of the exit points of a training; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_POINTS = 12


@dataclass(frozen=True)
class ExitSettings:
    """Number of exit points after the last epoch, and whether each step has a threshold of its own."""

    points: int = DEFAULT_POINTS
    by_step: bool = False


DEFAULTS = ExitSettings()
