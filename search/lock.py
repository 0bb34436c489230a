"""One driver a study: a lock file that says who holds it, and that a dead process does not hold."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from results.files import write_atomic

FILE = "driver.lock"


class LockedError(RuntimeError):
    """Another driver runs this study."""


@dataclass(frozen=True)
class Holder:
    """The driver that runs a study; `slots` are the trials that it runs at a time, once it knows."""

    pid: int
    host: str
    since: str
    slots: int | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the study's lock. Raises LockedError, naming the other driver, when somebody alive has it."""
    path = folder / FILE
    mine = {"pid": os.getpid(), "born": _born(os.getpid()), "host": socket.gethostname()}
    text = json.dumps({**mine, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    while True:
        try:
            with path.open("x") as file:
                file.write(text)
            break
        except FileExistsError:
            if (other := holder(folder)) is not None:
                raise LockedError(
                    f"{folder} is being run by {other}; wait for it, or start another study with --name. "
                    f"If that machine is gone, delete {path}"
                ) from None
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """Returns the driver that runs the study, or None; of another machine's it is not known whether it lives."""
    try:
        other = json.loads((folder / FILE).read_text())
        found = Holder(int(other["pid"]), str(other["host"]), str(other["since"]), other.get("slots"))
    except (OSError, ValueError, KeyError):
        return None  # cut off while it was written: its writer is dead
    dead = found.host == socket.gethostname() and _born(found.pid) != other.get("born")
    return None if dead else found


def note_slots(folder: Path, slots: int) -> None:
    """Writes into the lock that is held how many trials run at a time."""
    path = folder / FILE
    write_atomic(path, json.dumps({**json.loads(path.read_text()), "slots": slots}))


def _born(pid: int) -> str | None:
    """Returns when a process started, in clock ticks since boot; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
