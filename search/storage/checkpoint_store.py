"""Checkpoints in shared or object storage, through pyarrow's file systems: s3://, gs://, abfs://, hdfs://, file://.

A worker trains in a folder on its local disk and uploads each checkpoint, so that a trial can resume on any node.
A file in the store is either complete or absent: it is written under another name and renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from search.space.space import Space

SUFFIXES = (".sha256", ".pt")
"""Files of a checkpoint. The checksum is uploaded first, so that a visible checkpoint always has one."""


class CheckpointStore:
    """A folder of checkpoints at a URI. All methods raise the errors of the file system."""

    def __init__(self, uri: str) -> None:
        from pyarrow.fs import FileSystem

        self.uri = uri
        self._system, self._root = FileSystem.from_uri(uri)

    def check_writable(self) -> None:
        """Writes an empty file and deletes it."""
        self._system.create_dir(self._root, recursive=True)
        with self._system.open_output_stream(f"{self._root}/.writable") as file:
            file.write(b"")
        self._system.delete_file(f"{self._root}/.writable")

    def upload(self, folder: Path) -> None:
        """Makes the store equal to the checkpoints in a folder; files that it already has are not sent again."""
        from pyarrow.fs import LocalFileSystem, copy_files

        self._system.create_dir(self._root, recursive=True)
        stored = set(self._checkpoints())
        files = sorted(folder.iterdir())  # raises if the folder is gone: an empty one would empty the store
        local = {path.name: path for suffix in SUFFIXES for path in files if path.suffix == suffix}
        for name in [name for name in local if name not in stored]:
            partial = f"{self._root}/.{name}"
            copy_files(str(local[name]), partial, LocalFileSystem(), self._system)
            self._system.move(partial, f"{self._root}/{name}")
        for name in stored - local.keys():
            self._system.delete_file(f"{self._root}/{name}")

    def download(self, folder: Path) -> None:
        """Copies all checkpoints of the store into a folder."""
        from pyarrow.fs import LocalFileSystem, copy_files

        folder.mkdir(parents=True, exist_ok=True)
        for name in self._checkpoints():
            copy_files(f"{self._root}/{name}", str(folder / name), self._system, LocalFileSystem())

    def delete(self, names: set[str]) -> None:
        """Deletes the subfolders of these names; missing ones are ignored."""
        for name in names.intersection(self._names()):
            self._system.delete_dir(f"{self._root}/{name}")

    def _checkpoints(self) -> list[str]:
        """Returns the names of all complete checkpoint files."""
        return [name for name in self._names() if name.endswith(SUFFIXES) and not name.startswith(".")]

    def _names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        return [info.base_name for info in self._system.get_file_info(FileSelector(self._root, allow_not_found=True))]


class Cleaner:
    """Deletes subfolders of a store in a background thread. A deletion that failed is retried with the next one."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._pool = ThreadPoolExecutor(1)
        self._deleted: set[str] = set()

    def delete(self, names: set[str]) -> None:
        """Schedules the deletion of the subfolders of these names."""
        if names - self._deleted:
            self._pool.submit(self._delete, names - self._deleted)

    def close(self) -> None:
        """Waits for scheduled deletions."""
        self._pool.shutdown()

    def _delete(self, names: set[str]) -> None:
        CheckpointStore(self._uri).delete(names)
        self._deleted |= names


def delete_except(folder: Path, keep: Collection[int]) -> None:
    """Deletes the checkpoints of all trials but these from a study's folder of checkpoints."""
    for path in folder.glob("t*"):
        if path.name[1:].isdecimal() and int(path.name[1:]) not in keep:
            shutil.rmtree(path, ignore_errors=True)


def store_uri(space: Space, folder: Path) -> str | None:
    """Returns the URI that corresponds to a folder of the study, or None without a checkpoint store."""
    return None if space.settings.checkpoints is None else f"{space.settings.checkpoints}/{folder.as_posix()}"
