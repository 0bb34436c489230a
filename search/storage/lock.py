"""One driver a study: a lock file that says who holds it, and that a dead process does not hold."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from config.files import write_atomic

FILE = "driver.lock"
PROCESSES = Path("/proc")


class LockedError(RuntimeError):
    """Another driver runs this study."""


@dataclass(frozen=True)
class Holder:
    """The driver that runs a study; once it knows, the trials that it runs at a time, and the hours before it began."""

    pid: int
    host: str
    since: str
    slots: int | None = None
    hours_before: float | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the study's lock. Raises LockedError, naming the other driver, when somebody alive has it."""
    path = folder / FILE
    mine = {"pid": os.getpid(), "born": _start_time(os.getpid()), "host": socket.gethostname()}
    with _alone(folder):
        if (other := holder(folder)) is not None:
            raise LockedError(
                f"{folder} is being run by {other}; wait for it, or start another study with --name. "
                f"If that machine is gone, delete {path}"
            )
        write_atomic(path, json.dumps({**mine, "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """Returns the driver that runs the study, or None; of another machine's it is not known whether it lives."""
    try:
        other = json.loads((folder / FILE).read_text())
        found = Holder(
            int(other["pid"]), str(other["host"]), str(other["since"]), other.get("slots"), other.get("hours_before")
        )
    except (OSError, ValueError, KeyError):
        return None  # none is there, or one that no driver wrote
    dead = found.host == socket.gethostname() and _start_time(found.pid) != other.get("born")
    return None if dead else found


def update(folder: Path, slots: int, hours_before: float) -> None:
    """Writes into the lock that is held how many trials run at a time, and how long the search had run before."""
    path = folder / FILE
    write_atomic(path, json.dumps({**json.loads(path.read_text()), "slots": slots, "hours_before": hours_before}))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other starters out while a lock is looked at and taken, where the file system can lock a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _start_time(pid: int) -> str | None:
    """Returns when a process started, in clock ticks since boot, elsewhere than on Linux in seconds; None without one.

    The clock of Linux may be set, and what psutil tells there with it.
    """
    try:
        if PROCESSES.exists():
            return (PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return str(psutil.Process(pid).create_time())
    except (OSError, IndexError, psutil.Error):
        return None
