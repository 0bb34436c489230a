"""Driver lock: a file that names the one driver of a study and that a dead process does not hold."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from config.files import write_atomic
from config.lock_file import FILE, start_time
from config.lock_file import Holder as Holder
from config.lock_file import holder as holder


class LockedError(RuntimeError):
    """Another driver runs this study."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the study's lock. Raises LockedError with the name of the driver that holds it."""
    path = folder / FILE
    own = {"pid": os.getpid(), "born": start_time(os.getpid()), "host": socket.gethostname()}
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


def update(folder: Path, **values: Any) -> None:
    """Adds fields of `Holder` to the lock that is held: `slots`, `hours_before`, `batches`."""
    path = folder / FILE
    write_atomic(path, json.dumps({**json.loads(path.read_text()), **values}))


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
