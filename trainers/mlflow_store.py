"""MLflow connections: set-up of an SQLite store, clients, parameters, and a single training as a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from trainers.config import TrainConfig

ABANDONED_S = 3600.0
"""Age after which a draft store must belong to a killed process."""
MAX_PARAMS = 100
"""MLflow takes at most this many parameters in one call."""
EXPERIMENT = "trainers.run"
FILES = ("train.yml", "metrics.csv", "steps.json", "layers.json", "exits.json")


def connect(uri: str, settings: Mapping[str, str], log_level: int = logging.WARNING) -> MlflowClient:
    """Returns a client of a store, which is created if its SQLite file is missing.

    `settings` are MLflow's environment variables; those that the user has set win.
    """
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for logger in ("alembic", "mlflow", "mlflow.store.db.utils"):  # mlflow sets their levels when it is imported
        logging.getLogger(logger).setLevel(log_level)
    create_store(uri)
    return MlflowClient(tracking_uri=uri)


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Logs parameters of a run, in as many calls as MLflow needs."""
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in values.items()]
    for start in range(0, len(params), MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + MAX_PARAMS])


def create_store(uri: str) -> None:
    """Creates the SQLite store of a URI if its file does not exist; does nothing for other URIs.

    MLflow creates the tables one by one and can never open a store whose creation was interrupted. The store is
    therefore created under another name and renamed once complete. Raises what MLflow and the disk raise.
    """
    path = _sqlite_file(uri)
    if path is None or path.exists() or not path.parent.is_dir():
        return
    from mlflow.tracking import MlflowClient

    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        store = MlflowClient(tracking_uri=f"{uri.rpartition('/')[0]}/{quote(draft.name)}")._tracking_client.store
        store.engine.dispose()
        _rename_unless_exists(draft, path)
    finally:
        for file in path.parent.glob(f".{path.name}-*"):
            if file.name.startswith(draft.name) or _is_abandoned(file):
                file.unlink(missing_ok=True)


def _rename_unless_exists(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:  # another process has created it
        pass
    except OSError:  # the file system has no links
        if not path.exists():
            draft.rename(path)


def _is_abandoned(draft: Path) -> bool:
    try:
        return time.time() - draft.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:  # its process has finished
        return False


def _sqlite_file(uri: str) -> Path | None:
    """Returns the file of an SQLite URI that is a plain path."""
    name = uri.removeprefix("sqlite:///")
    return None if name == uri or not name or name.startswith((":", "file:")) or "?" in name else Path(unquote(name))


class Tracker:
    """A single training as an MLflow run of the experiment `trainers.run`, named like the training's folder.

    Logs the train file, the metrics of each epoch, and the read-outs and layers of the last. A resumed training
    continues its run: the folder stores the run's identifier.
    """

    def __init__(self, uri: str, config: TrainConfig, folder: Path) -> None:
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
        self._client = connect(uri, settings)
        self._folder = folder
        saved = folder / "mlflow-run.txt"
        if saved.exists():
            self.run_id = saved.read_text().strip()
            self._client.set_terminated(self.run_id, "RUNNING")
            return
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        self.run_id = self._client.create_run(experiment, run_name=folder.name).info.run_id
        log_params(self._client, self.run_id, config.dump())
        saved.write_text(self.run_id + "\n")

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of an epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(key, value, now, epoch) for key, value in metrics.items()])

    def end(self, status: str) -> None:
        """Logs the folder's files and the final status of the run: FINISHED, FAILED or KILLED."""
        for name in FILES:
            if (self._folder / name).exists():
                self._client.log_artifact(self.run_id, str(self._folder / name))
        self._client.set_terminated(self.run_id, status)
