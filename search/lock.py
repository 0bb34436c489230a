"""One driver a study: a lock file that says who holds it, and that a dead process does not hold."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LockedError(RuntimeError):
    """Another driver runs this study."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the study's lock. Raises LockedError, naming the other driver, when somebody alive has it."""
    path = folder / "driver.lock"
    mine = {"pid": os.getpid(), "born": _born(os.getpid()), "host": socket.gethostname()}
    text = json.dumps({**mine, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    while True:
        try:
            with path.open("x") as file:
                file.write(text)
            break
        except FileExistsError:
            _refuse_if_alive(path)
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _refuse_if_alive(path: Path) -> None:
    try:
        other = json.loads(path.read_text())
        pid, host, since = int(other["pid"]), str(other["host"]), str(other["since"])
    except (OSError, ValueError, KeyError):
        return  # cut off while it was written: its writer is dead
    if host == socket.gethostname() and _born(pid) != other.get("born"):
        return
    raise LockedError(
        f"{path.parent} is being run by process {pid} on {host} since {since}; wait for it, or start another study "
        f"with --name. If that machine is gone, delete {path}"
    )


def _born(pid: int) -> str | None:
    """Returns when a process started, in clock ticks since boot; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
