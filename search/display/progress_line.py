"""One line of progress that replaces itself, for notebooks: their output has no cursor, but honors carriage returns."""

from __future__ import annotations

from dataclasses import dataclass

from search.display import dashboard
from search.display.dashboard import Dashboard

SHOWN = ("trials", "front", "hypervolume", "time")
"""Rows of the dashboard that the line shows."""


def text(shown: Dashboard) -> str:
    """Returns the line: `trials 3 of 26: 1 running, 2 complete | front 2 points | ...`."""
    rows = dict(dashboard.rows(shown))
    return " | ".join(f"{name} {rows[name]}" for name in SHOWN)


@dataclass
class ProgressLine:
    """A line on the standard output that the next one replaces."""

    _length: int = 0

    def show(self, line: str) -> None:
        """Replaces the line."""
        print(f"\r{line:<{self._length}}", end="", flush=True)
        self._length = len(line)

    def print_above(self, line: str) -> None:
        """Prints a line that stays, in place of the progress."""
        self.show(line)
        self.end()

    def end(self) -> None:
        """Ends the line."""
        print(flush=True)
        self._length = 0
