"""Starts a local Ray, or joins a cluster, and says what is there as nodes come and go."""

from __future__ import annotations

import os

PATIENCE = "TUNE_FUNCTION_THREAD_TIMEOUT_S"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    PATIENCE: "60",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's switches: quiet, no loggers of its own, no experiment snapshots (the study is what is resumed), no limit to
the trials that wait for a place (the searcher gives none that has no place), and time for a worker on a busy machine
to come to the end of one trial before it takes the next."""

os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})

import importlib.util  # noqa: E402  # Ray reads its switches when it is imported
import ipaddress  # noqa: E402
import logging  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import ray  # noqa: E402

from search.space.schema import Resources  # noqa: E402
from trainers import ray_environment  # noqa: E402

OBJECT_STORE_BYTES = 256 * 2**20
PACKAGES = ("config", "models", "trainers", "search", "results")
POLL_S = 5.0
"""Seconds between two looks at the nodes."""

LARGEST_PACKAGE_MIB = 20
"""The most that a package of the user's own may hold when it is sent to the nodes."""

REJECTED = 77
PROBE = f"""
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
except AuthenticationError:
    sys.exit({REJECTED})
"""


class ClusterError(RuntimeError):
    """Ray cannot be started, reached, or give what a trial needs."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    id: str
    host: str
    cpus: float
    gpus: float

    def slots(self, need: Resources) -> int:
        """Returns how many trials fit at a time; a share of a GPU is one of a single card."""
        by_gpu = float("inf")
        if need.gpu:
            by_gpu = self.gpus / need.gpu if need.gpu >= 1 else int(self.gpus) * int(1 / need.gpu + 1e-9)
        return int(min(self.cpus / need.cpu, by_gpu) + 1e-9)


@dataclass(frozen=True)
class Cluster:
    """The machines that are there."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def concurrency(self, need: Resources, wanted: int | None) -> int:
        """Returns how many trials fit at a time, at most `wanted`. Raises ClusterError when not even one does."""
        fit = sum(node.slots(need) for node in self.nodes)
        if not fit:
            largest = max(self.nodes, key=lambda node: (node.gpus, node.cpus), default=Node("", "", 0, 0))
            raise ClusterError(
                f"a trial asks for {need.cpu:g} CPU and {need.gpu:g} GPU, but the cluster's largest node has "
                f"{largest.cpus:g} CPU and {largest.gpus:g} GPU; lower resources in the space file"
            )
        return min(fit, wanted) if wanted else fit

    def more_resources(self, need: Resources) -> Resources | None:
        """Returns what a trial that ran out of memory is tried again with; None where it had all of it.

        Twice its share of a card; where it uses none, twice the CPUs, so that fewer trials share its node's memory.
        """
        if need.gpu:
            return None if need.gpu >= 1 else need.model_copy(update={"gpu": min(1.0, 2 * need.gpu)})
        most = max((node.cpus for node in self.nodes), default=0.0)
        return None if need.cpu >= most else need.model_copy(update={"cpu": min(2 * need.cpu, most)})


@dataclass
class Slots:
    """How many trials may run at a time; looked up anew every few seconds, as nodes come and go.

    Nodes whose ids are in `unfit` do not count.
    """

    need: Resources
    wanted: int | None
    count: int
    on_change: Callable[[int, Cluster], None] = lambda count, cluster: None
    unfit: set[str] = field(default_factory=set)
    _due: float = field(default_factory=lambda: time.monotonic() + POLL_S)

    def __call__(self) -> int:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + POLL_S
            cluster = current_nodes()
            fit = sum(node.slots(self.need) for node in cluster.nodes if node.id not in self.unfit)
            count = max(1, min(fit, self.wanted) if self.wanted else fit)
            if count != self.count:
                self.count = count
                self.on_change(count, cluster)
        return self.count


def start(address: str | None = None, insecure: bool = False, imports: Sequence[str] = ()) -> Cluster:
    """Starts a Ray of our own on this machine, or joins the one at `address`, to which our packages travel.

    Ours has no dashboard and takes nobody without its token, whatever the environment says. One that takes anybody,
    and is not out of others' reach, is joined only if `insecure` allows it. `imports` are packages of the user's own,
    which travel too. Raises ClusterError.
    """
    ours = [] if address is None else packages(imports)
    try:
        if address is None:
            ray_environment.start(object_store_memory=OBJECT_STORE_BYTES)
        else:
            patience = {PATIENCE: os.environ[PATIENCE]}
            environment = {"py_modules": ours, "excludes": ["__pycache__", "*.pyc"], "env_vars": patience}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
    except Exception as error:  # Ray raises bare ones, as where its processes take too long to start
        where = "could not be started here" if address is None else f"could not be reached at {address}"
        raise ClusterError(f"Ray {where}: {error}") from error
    if address is not None and not insecure:
        _refuse_unauthenticated(head())
    return current_nodes()


def head() -> str:
    """Returns the address of the cluster's head."""
    return str(ray.get_runtime_context().gcs_address)


def current_nodes() -> Cluster:
    """Returns the machines that are alive."""
    return Cluster(
        tuple(
            Node(
                node["NodeID"],
                node["NodeManagerHostname"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in ray.nodes()
            if node["Alive"]
        )
    )


def lost_nodes() -> int:
    """Returns how many nodes have left the cluster since it was started."""
    return sum(not node["Alive"] for node in ray.nodes())


def packages(imports: Sequence[str]) -> list[str]:
    """Returns the folders of the packages that nodes need: ours, and the user's own.

    Raises ClusterError where one holds so much that it cannot be only code.
    """
    names = dict.fromkeys([*PACKAGES, *(name.split(".")[0] for name in imports)])
    folders = [_folder(name) for name in names]
    for folder in folders:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
        if size > LARGEST_PACKAGE_MIB * 2**20:
            raise ClusterError(
                f"{folder} would be sent to every node, but holds {size / 2**20:.0f} MiB; "
                f"keep data out of it (at most {LARGEST_PACKAGE_MIB} MiB)"
            )
    return [str(folder) for folder in folders]


def _folder(name: str) -> Path:
    found: Any = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise ClusterError(f"--import {name}: must be a package (a folder) to be sent to a cluster's nodes")
    return Path(places[0])


def _refuse_unauthenticated(address: str) -> None:
    """Leaves a cluster that others can reach and that asks nobody for a token. Raises ClusterError."""
    if is_loopback(address.rpartition(":")[0]) or (_has_token() and _requires_token(address)):
        return
    ray.shutdown()
    raise ClusterError(
        f"the Ray cluster at {address} takes anybody who can reach it, and they could run code here. Start it with "
        f"RAY_AUTH_MODE=token (docs/security.md), or give --insecure-cluster where its network is private"
    )


def _has_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _requires_token(address: str) -> bool:
    """Returns whether a process without a token is turned away; only a new process can be without one."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", PROBE, address], env=environment, check=False, capture_output=True)
    return done.returncode == REJECTED


def stop() -> None:
    """Leaves the cluster; a Ray of our own ends with it."""
    ray.shutdown()


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine, out of reach of others."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
