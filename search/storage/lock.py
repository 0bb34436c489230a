"""Driver lock: a file that names the one driver of a study and that a dead process does not hold."""

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
    """The driver that runs a study, its number of parallel trials, and the hours that the search had run before."""

    pid: int
    host: str
    since: str
    slots: int | None = None
    hours_before: float | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the study's lock. Raises LockedError with the name of the driver that holds it."""
    path = folder / FILE
    own = {"pid": os.getpid(), "born": _start_time(os.getpid()), "host": socket.gethostname()}
    with _exclusive(folder):
        if (other := holder(folder)) is not None:
            raise LockedError(
                f"{folder} is being run by {other}; wait for it, or start another study with --name. "
                f"If that machine is gone, delete {path}"
            )
        write_atomic(path, json.dumps({**own, "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """Returns the driver that runs the study, or None. A driver on another machine is assumed to be alive."""
    try:
        lock = json.loads((folder / FILE).read_text())
        found = Holder(int(lock["pid"]), lock["host"], lock["since"], lock.get("slots"), lock.get("hours_before"))
    except (OSError, ValueError, KeyError):
        return None  # no lock, or a file that no driver wrote
    is_dead = found.host == socket.gethostname() and _start_time(found.pid) != lock.get("born")
    return None if is_dead else found


def update(folder: Path, slots: int, hours_before: float) -> None:
    """Adds the number of parallel trials and the hours of earlier runs to the lock that is held."""
    path = folder / FILE
    write_atomic(path, json.dumps({**json.loads(path.read_text()), "slots": slots, "hours_before": hours_before}))


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Excludes other starting drivers while the lock is checked and taken, if the file system can lock a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _start_time(pid: int) -> str | None:
    """Returns when a process started, or None if there is none. On Linux the time is in clock ticks since boot, as
    psutil's seconds change if the clock is set; elsewhere it is in seconds.
    """
    try:
        if PROCESSES.exists():
            return (PROCESSES / f"{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return str(psutil.Process(pid).create_time())
    except (OSError, IndexError, psutil.Error):
        return None
