"""MLflow's store in an SQLite file, which is there wholly or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


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
        store = MlflowClient(tracking_uri=f"sqlite:///{draft}")._tracking_client.store
        store.engine.dispose()
        with suppress(FileExistsError):  # somebody else was faster
            os.link(draft, path)
    finally:
        for file in path.parent.glob(f"{draft.name}*"):
            file.unlink(missing_ok=True)


def _file(uri: str) -> Path | None:
    """Returns the file of an SQLite URI that is a plain path."""
    name = uri.removeprefix("sqlite:///")
    return None if name == uri or not name or name.startswith((":", "file:")) or "?" in name else Path(name)
