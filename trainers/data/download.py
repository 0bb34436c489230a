"""Downloads of published files: resumed after interruptions, from several mirrors, checked by MD5 sums."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from trainers.datasets import DataError, first_line

ROUNDS = 3
"""Times that every mirror is tried."""
TIMEOUT_S = 30.0
CHUNK = 1 << 18
PARTIAL = ".part"
"""Ending of a file that is not complete; the next download continues it."""
RANGE_NOT_SATISFIABLE = 416
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name, the addresses that offer it, and its MD5 sum."""

    name: str
    urls: tuple[str, ...]
    md5: str


def download(file: RemoteFile, folder: Path) -> Path:
    """Returns the path of the complete file in a folder. Raises DataError if no address gives it with its MD5 sum."""
    from torchvision.datasets.utils import check_integrity

    path, partial = folder / file.name, folder / f"{file.name}{PARTIAL}"
    if check_integrity(path, file.md5):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    urls, reason = list(file.urls), ""
    for url in file.urls * ROUNDS:
        if url not in urls:
            continue
        try:
            is_resumed = _receive(url, partial)
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            reason = f"{url}: {first_line(error)}"
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                urls.remove(url)
            continue
        if check_integrity(partial, file.md5):
            partial.replace(path)
            return path
        partial.unlink()
        reason = f"{url}: its MD5 sum is not the published one, {file.md5}"
        if not is_resumed:
            urls.remove(url)
    raise DataError(f"{file.name} cannot be downloaded ({reason})")


def _receive(url: str, partial: Path) -> bool:
    """Writes a file, or the rest of a partial one, and returns whether it was continued.

    Raises ConnectionError if the connection ends too early, and urllib's errors.
    """
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "python-urllib", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if start and error.code == RANGE_NOT_SATISFIABLE:  # the partial file is complete, or of another file
            return True
        raise
    with response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with (
            partial.open("ab" if start else "wb") as out,
            Progress(*_COLUMNS, TimeRemainingColumn(), disable=not sys.stdout.isatty()) as progress,
        ):
            task = progress.add_task(partial.name.removesuffix(PARTIAL), total=total, completed=start)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                progress.advance(task, len(chunk))
    size = partial.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size:,} of {total:,} bytes")
    return start > 0
