"""Published archives: search, MD5 check and extraction."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

from trainers.datasets import DataError, data_remedy, first_line

DOWNLOADED = "download"
UNPACKED = "extract"
"""SpikingJelly's folders for archives and for their content."""


def find(root: Path, names: tuple[str, ...], data_set: str) -> list[Path]:
    """Returns the archives, in the root or its folder `download`. Raises DataError for missing ones."""
    found = [next((p for p in (root / DOWNLOADED / name, root / name) if p.is_file()), None) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(f"{data_set}: {root} lacks {', '.join(missing)}; {data_remedy(data_set, root)}")
    return [path for path in found if path is not None]


def unpack(root: Path, names: tuple[str, ...], data_set: str, published: str) -> None:
    """Unpacks the archives into `root/extract`, all or nothing. Warns of MD5 sums that differ.

    `published` is the name of SpikingJelly's class for the data set. Raises DataError for a damaged archive.
    """
    paths = find(root, names, data_set)
    _warn_of_sums(paths, data_set, published)
    partial = root / f"{UNPACKED}.{os.getpid()}.tmp"
    path = partial
    try:
        partial.mkdir()
        for path in paths:
            shutil.unpack_archive(path, partial, filter=None if path.suffix == ".zip" else "data")
        partial.rename(root / UNPACKED)
    except Exception as error:  # zipfile, tarfile and zlib raise errors of many types
        if (root / UNPACKED).is_dir() and isinstance(error, OSError):
            return  # another process has created it
        raise DataError(f"{data_set}: {path} cannot be unpacked ({first_line(error)}); get it again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _warn_of_sums(paths: list[Path], data_set: str, published: str) -> None:
    import spikingjelly.datasets as sets
    from torchvision.datasets.utils import check_integrity

    sums = {name: md5 for name, _, md5 in getattr(sets, published).resource_url_md5()}
    differ = [path.name for path in paths if not check_integrity(path, sums[path.name])]
    if differ:
        warnings.warn(f"{data_set}: {', '.join(differ)} differ from the published ones (MD5)", stacklevel=2)
