"""Starts a local Ray, or joins a cluster, and says what is there."""

from __future__ import annotations

import os

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's switches: quiet, no loggers of its own, no experiment snapshots (the study is what is resumed)."""

os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})

import logging  # noqa: E402  # Ray reads its switches when it is imported
from dataclasses import dataclass  # noqa: E402

import ray  # noqa: E402

OBJECT_STORE_BYTES = 256 * 2**20


class ClusterError(RuntimeError):
    """Ray cannot be started, reached, or give what a trial needs."""


@dataclass(frozen=True)
class Cluster:
    """What the cluster has in all."""

    cpus: float
    gpus: float
    address: str

    def concurrency(self, cpu: float, gpu: float, wanted: int | None) -> int:
        """Returns how many trials fit at a time, at most `wanted`. Raises ClusterError when not even one does."""
        if cpu > self.cpus or gpu > self.gpus:
            raise ClusterError(
                f"a trial asks for {cpu:g} CPU and {gpu:g} GPU, but the cluster has {self.cpus:g} CPU and "
                f"{self.gpus:g} GPU; lower resources in the space file"
            )
        fit = int(min(self.cpus / cpu, self.gpus / gpu if gpu else float("inf")))
        return min(fit, wanted) if wanted else fit


def start(address: str | None = None) -> Cluster:
    """Starts a Ray of our own on this machine, or joins the one at `address`. Raises ClusterError."""
    try:
        if address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "could not be started here" if address is None else f"could not be reached at {address}"
        raise ClusterError(f"Ray {where}: {error}") from error
    resources = ray.cluster_resources()
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), address or "local")


def stop() -> None:
    """Leaves the cluster; a Ray of our own ends with it."""
    ray.shutdown()
