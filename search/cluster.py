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
import subprocess  # noqa: E402
import sys  # noqa: E402
from dataclasses import dataclass  # noqa: E402

import ray  # noqa: E402

from search import security  # noqa: E402

OBJECT_STORE_BYTES = 256 * 2**20
TURNED_AWAY = 77
PROBE = f"""
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
except AuthenticationError:
    sys.exit({TURNED_AWAY})
"""


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


def start(address: str | None = None, insecure: bool = False) -> Cluster:
    """Starts a Ray of our own on this machine, or joins the one at `address`. Raises ClusterError.

    Ours has no dashboard and takes nobody without its token, whatever the environment says. One that takes anybody,
    and is not out of others' reach, is joined only if `insecure` allows it.
    """
    try:
        if address is None:
            os.environ.pop("RAY_AUTH_MODE", None)  # unset, Ray turns the token on for a Ray of one's own
            security.keep_token_private()
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
    if address is not None and not insecure:
        _refuse_open_cluster(ray.get_runtime_context().gcs_address)
    resources = ray.cluster_resources()
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), address or "local")


def _refuse_open_cluster(address: str) -> None:
    """Leaves a cluster that others can reach and that asks nobody for a token. Raises ClusterError."""
    if security.is_loopback(address.rpartition(":")[0]) or (_has_token() and _asks_for_token(address)):
        return
    ray.shutdown()
    raise ClusterError(
        f"the Ray cluster at {address} takes anybody who can reach it, and they could run code here. Start it with "
        f"RAY_AUTH_MODE=token (docs/security.md), or give --insecure-cluster where its network is private"
    )


def _has_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _asks_for_token(address: str) -> bool:
    """Returns whether a process without a token is turned away; only a new process can be without one."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", PROBE, address], env=environment, check=False, capture_output=True)
    return done.returncode == TURNED_AWAY


def stop() -> None:
    """Leaves the cluster; a Ray of our own ends with it."""
    ray.shutdown()
