"""Writes a file in one step, so that a reader or a crash never meets half of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A disk that is full, a quota that is used up, a file system that was set to read-only."""


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes the file beside its place, then moves it there; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
