"""Checkpoints in shared or object storage, through pyarrow's file systems: s3://, gs://, abfs://, hdfs://, file://.

A trial works in a folder of its worker's own disk. What is kept of it lies at an address, from where it goes on, on
whatever node. A file there is whole or not there: it is written aside and moved, or put in one piece by the store.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from search.space.space import Space

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

FILES = (".sha256", ".pt")
"""What a checkpoint consists of; its sum goes first, so that whoever sees the checkpoint sees its sum."""


def check_writable(address: str) -> None:
    """Writes there and deletes it again. Raises whatever the file system raises where that cannot be done."""
    from pyarrow.fs import FileSystem

    system, root = FileSystem.from_uri(address)
    system.create_dir(root, recursive=True)
    with system.open_output_stream(f"{root}/.writable") as file:
        file.write(b"")
    system.delete_file(f"{root}/.writable")


def upload(folder: Path, address: str) -> None:
    """Makes what lies at the address the same as the checkpoints in a folder; what is there is not sent again."""
    from pyarrow.fs import FileSystem, LocalFileSystem, copy_files

    system, root = FileSystem.from_uri(address)
    system.create_dir(root, recursive=True)
    there = {info.base_name for info in _files(system, root)}
    here = sorted((path for path in folder.iterdir() if path.suffix in FILES), key=lambda path: path.suffix != FILES[0])
    for path in here:
        if path.name not in there:
            aside = f"{root}/.{path.name}"
            copy_files(str(path), aside, source_filesystem=LocalFileSystem(), destination_filesystem=system)
            system.move(aside, f"{root}/{path.name}")
    for name in there - {path.name for path in here}:
        system.delete_file(f"{root}/{name}")


def download(address: str, folder: Path) -> None:
    """Copies the checkpoints at the address, if there are any, into a folder."""
    from pyarrow.fs import FileSystem, LocalFileSystem, copy_files

    system, root = FileSystem.from_uri(address)
    folder.mkdir(parents=True, exist_ok=True)
    for info in _files(system, root):
        copy_files(
            info.path,
            str(folder / info.base_name),
            source_filesystem=system,
            destination_filesystem=LocalFileSystem(),
        )


class Cleaner:
    """Deletes folders at an address in a thread of its own, so that the search does not wait for the store.

    What could not be deleted is tried again the next time.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._pool = ThreadPoolExecutor(1)
        self._gone: set[str] = set()

    def delete(self, names: set[str]) -> None:
        """Has the folders of these names deleted, where they are there."""
        if names - self._gone:
            self._pool.submit(self._delete, names - self._gone)

    def close(self) -> None:
        """Waits for what is under way."""
        self._pool.shutdown()

    def _delete(self, names: set[str]) -> None:
        from pyarrow.fs import FileSelector, FileSystem

        system, root = FileSystem.from_uri(self.address)
        there = {info.base_name for info in system.get_file_info(FileSelector(root, allow_not_found=True))}
        for name in names & there:
            system.delete_dir(f"{root}/{name}")
        self._gone |= names


def _files(system: FileSystem, root: str) -> list[FileInfo]:
    """Returns the checkpoints' files that are whole."""
    from pyarrow.fs import FileSelector

    found = system.get_file_info(FileSelector(root, allow_not_found=True))
    return [info for info in found if f".{info.extension}" in FILES and not info.base_name.startswith(".")]


def store_uri(space: Space, folder: Path) -> str | None:
    """Returns the address that stands for a folder inside the study's, where its checkpoints are kept elsewhere."""
    return None if space.settings.checkpoints is None else f"{space.settings.checkpoints}/{folder.as_posix()}"
