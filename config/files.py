"""Atomic writes: readers and crashes see the old content or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Full disk, exceeded quota, read-only file system."""


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a temporary file in the same folder, then replaces the file; creates missing folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
