"""A single training as an MLflow run: train file, metrics of each epoch, read-outs and layers of the last."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from trainers import mlflow_store
from trainers.config import TrainConfig

EXPERIMENT = "trainers.run"
FILES = ("train.yml", "metrics.csv", "steps.json", "layers.json")
MAX_PARAMS = 100
"""MLflow takes at most this many parameters in one call."""


class Tracker:
    """An open run of the experiment `trainers.run`, named like the folder of the training.

    A training that is resumed goes on in the run that it began: the folder remembers its identifier.
    """

    def __init__(self, uri: str, config: TrainConfig, folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        for logger in ("alembic", "mlflow", "mlflow.store.db.utils"):  # mlflow sets levels of its own when imported
            logging.getLogger(logger).setLevel(logging.WARNING)
        mlflow_store.make(uri)
        self._client = MlflowClient(tracking_uri=uri)
        self._folder = folder
        known = folder / "mlflow-run.txt"
        if known.exists():
            self.run_id = known.read_text().strip()
            self._client.set_terminated(self.run_id, "RUNNING")
            return
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        self.run_id = self._client.create_run(experiment, run_name=folder.name).info.run_id
        params = [Param(key, str(value)) for key, value in config.dump().items()]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self.run_id, params=params[start : start + MAX_PARAMS])
        known.write_text(self.run_id + "\n")

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of an epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(key, value, now, epoch) for key, value in metrics.items()])

    def end(self, status: str) -> None:
        """Records the folder's files and how the training ended: FINISHED, FAILED or KILLED."""
        for name in FILES:
            if (self._folder / name).exists():
                self._client.log_artifact(self.run_id, str(self._folder / name))
        self._client.set_terminated(self.run_id, status)
