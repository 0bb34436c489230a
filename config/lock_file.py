"""The lock file of a study: it names the one driver that runs it. A file that a dead process left locks nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FILE = "driver.lock"
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """The driver that runs a study, its number of parallel trials, and the hours that the search had run before.

    `batches` holds the epoch, the batch and the number of batches of each running trial that reported from within one.
    """

    pid: int
    host: str
    since: str
    slots: int | None = None
    hours_before: float | None = None
    batches: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def holder(folder: Path) -> Holder | None:
    """Returns the driver that runs the study, or None. A driver on another machine is assumed to be alive."""
    try:
        lock = json.loads((folder / FILE).read_text())
        batches = {int(number): tuple(batch) for number, batch in lock.get("batches", {}).items()}
        optional = (lock.get("slots"), lock.get("hours_before"), batches)
        found = Holder(int(lock["pid"]), lock["host"], lock["since"], *optional)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no lock, or a file that no driver wrote
    is_dead = found.host == socket.gethostname() and start_time(found.pid) != lock.get("born")
    return None if is_dead else found


def start_time(pid: int) -> str | None:
    """Returns when a process started, or None if there is none. On Linux the time is in clock ticks since boot, as
    psutil's seconds change if the clock is set; elsewhere it is in seconds.
    """
    try:
        if PROCESSES.exists():
            return (PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return str(psutil.Process(pid).create_time())
    except (OSError, IndexError, psutil.Error):
        return None
