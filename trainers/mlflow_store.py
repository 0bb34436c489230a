"""MLflow's store in an SQLite file, which is there wholly or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import quote, unquote

ABANDONED_S = 3600.0
"""Age of a draft whose maker must have been killed."""


def make(uri: str) -> None:
    """Sets up the SQLite store that a URI names, where its file is not there yet; does nothing for other URIs.

    MLflow sets a new one up table by table, and can never open it again where it was killed meanwhile. So this is done
    under another name, which the file loses when it is whole. Raises what MLflow and the disk raise.
    """
    path = _file(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return
    from mlflow.tracking import MlflowClient

    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        store = MlflowClient(tracking_uri=f"{uri.rpartition('/')[0]}/{quote(draft.name)}")._tracking_client.store
        store.engine.dispose()
        _put(draft, path)
    finally:
        for file in path.parent.glob(f".{path.name}-*"):
            if file.name.startswith(draft.name) or _is_abandoned(file):
                file.unlink(missing_ok=True)


def _put(draft: Path, path: Path) -> None:
    """Gives a file its name, unless somebody else was faster."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            draft.rename(path)


def _is_abandoned(draft: Path) -> bool:
    try:
        return time.time() - draft.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:  # its maker has come to the end
        return False


def _file(uri: str) -> Path | None:
    """Returns the file of an SQLite URI that is a plain path."""
    name = uri.removeprefix("sqlite:///")
    return None if name == uri or not name or name.startswith((":", "file:")) or "?" in name else Path(unquote(name))
