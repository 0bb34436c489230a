"""The Ray cluster: a local one or one to join, its nodes, and the trials that fit on them."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from config import cli, interrupts
from config.cli import CommandError
from search.execution import END_TIMEOUT
from search.space.schema import Resources
from trainers.distributed import ray_environment

OBJECT_STORE_BYTES = 256 * 2**20
PACKAGES = ("config", "models", "trainers", "search", "results")
POLL_S = 5.0
"""Seconds between two checks of the nodes."""

MAX_PACKAGE_MIB = 20
"""Largest user package that is sent to the nodes."""

REJECTED = 77
TOKEN_PROBE = f"""
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
except AuthenticationError:
    sys.exit({REJECTED})
"""


class ClusterError(CommandError):
    """Ray cannot be started or reached, or has too few resources for a trial."""

    def __init__(self, text: str) -> None:
        super().__init__(cli.ENVIRONMENT, text)


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    id: str
    host: str
    cpus: float
    gpus: float

    def slots(self, need: Resources) -> int:
        """Returns the number of trials that fit at a time; a GPU share uses a single GPU."""
        by_gpu = float("inf")
        if need.gpu:
            by_gpu = self.gpus / need.gpu if need.gpu >= 1 else int(self.gpus) * int(1 / need.gpu + 1e-9)
        return int(min(self.cpus / need.cpu, by_gpu) + 1e-9)


@dataclass(frozen=True)
class Cluster:
    """The nodes that are alive."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def concurrency(self, need: Resources, wanted: int | None) -> int:
        """Returns the number of trials that fit at a time, at most `wanted`. Raises ClusterError if none fits."""
        fit = sum(node.slots(need) for node in self.nodes)
        if not fit:
            largest = max(self.nodes, key=lambda node: (node.gpus, node.cpus), default=Node("", "", 0, 0))
            raise ClusterError(
                f"a trial asks for {need.cpu:g} CPU and {need.gpu:g} GPU, but the cluster's largest node has "
                f"{largest.cpus:g} CPU and {largest.gpus:g} GPU; lower resources in the space file"
            )
        return min(fit, wanted) if wanted else fit

    def more_resources(self, need: Resources) -> Resources | None:
        """Returns the resources for a retry after running out of memory, or None if it had the largest already.

        They are twice the GPU share; without a GPU twice the CPUs, so that fewer trials share the node's memory.
        """
        if need.gpu:
            return None if need.gpu >= 1 else need.model_copy(update={"gpu": min(1.0, 2 * need.gpu)})
        largest = max((node.cpus for node in self.nodes), default=0.0)
        return None if need.cpu >= largest else need.model_copy(update={"cpu": min(2 * need.cpu, largest)})


@dataclass
class Slots:
    """The number of trials that may run at a time, updated every few seconds as nodes join and leave.

    Nodes in `unfit` do not count.
    """

    need: Resources
    wanted: int | None
    count: int
    on_change: Callable[[int, Cluster], None] = lambda count, cluster: None
    unfit: set[str] = field(default_factory=set)
    _next_poll: float = field(default_factory=lambda: time.monotonic() + POLL_S)

    def __call__(self) -> int:
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_S
            cluster = current_nodes()
            fit = sum(node.slots(self.need) for node in cluster.nodes if node.id not in self.unfit)
            count = max(1, min(fit, self.wanted) if self.wanted else fit)
            if count != self.count:
                self.count = count
                self.on_change(count, cluster)
        return self.count


def start(address: str | None = None, insecure: bool = False, imports: Sequence[str] = ()) -> Cluster:
    """Starts a local Ray, or joins the cluster at `address` and sends our packages and the user's `imports` to it.

    A local Ray has no dashboard and requires its token, also if the environment disables it. An unauthenticated cluster
    that other machines can reach is joined only if `insecure`. Raises ClusterError, and Interrupted after the start.
    """
    sent = [] if address is None else packages(imports)
    try:
        with interrupts.deferred():
            _init(address, sent)
            interrupts.catch_signals()  # Ray installs a handler of SIGTERM
    except CommandError:
        raise
    except Exception as error:  # Ray raises plain exceptions, for instance if its processes start too slowly
        problem = "could not be started here" if address is None else f"could not be reached at {address}"
        raise ClusterError(f"Ray {problem}: {error}") from error
    if address is not None and not insecure:
        _refuse_unauthenticated(head())
    return current_nodes()


def _init(address: str | None, sent: list[str]) -> None:
    if address is None:
        ray_environment.start(object_store_memory=OBJECT_STORE_BYTES)
        return
    variables = {END_TIMEOUT: os.environ[END_TIMEOUT]}
    environment = {"py_modules": sent, "excludes": ["__pycache__", "*.pyc"], "env_vars": variables}
    environment |= ray_environment.interpreter()  # this machine is one of the nodes
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)


def head() -> str:
    """Returns the address of the cluster's head."""
    return str(ray.get_runtime_context().gcs_address)


def current_nodes() -> Cluster:
    """Returns the nodes that are alive."""
    alive = [(node, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return Cluster(
        tuple(
            Node(node["NodeID"], node["NodeManagerHostname"], has.get("CPU", 0.0), has.get("GPU", 0.0))
            for node, has in alive
        )
    )


def lost_nodes() -> int:
    """Returns the number of nodes that have left the cluster since it started."""
    return sum(not node["Alive"] for node in ray.nodes())


def packages(imports: Sequence[str]) -> list[str]:
    """Returns the folders of the packages that nodes need: ours, and the user's.

    Raises ClusterError if one is too large to be only code.
    """
    names = dict.fromkeys([*PACKAGES, *(name.split(".")[0] for name in imports)])
    folders = [_folder(name) for name in names]
    for folder in folders:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
        if size > MAX_PACKAGE_MIB * 2**20:
            raise ClusterError(
                f"{folder} would be sent to every node, but holds {size / 2**20:.0f} MiB; "
                f"keep data out of it (at most {MAX_PACKAGE_MIB} MiB)"
            )
    return [str(folder) for folder in folders]


def _folder(name: str) -> Path:
    found: Any = importlib.util.find_spec(name)
    locations = list(found.submodule_search_locations or ()) if found is not None else []
    if not locations:
        raise ClusterError(f"--import {name}: must be a package (a folder) to be sent to a cluster's nodes")
    return Path(locations[0])


def _refuse_unauthenticated(address: str) -> None:
    """Leaves a cluster that other machines can reach without a token. Raises ClusterError."""
    if is_loopback(address.rpartition(":")[0]) or (_has_token() and _requires_token(address)):
        return
    ray.shutdown()
    raise ClusterError(
        f"the Ray cluster at {address} is unauthenticated: anyone who can reach it could run code here. Start it with "
        f"RAY_AUTH_MODE=token (docs/security.md), or give --insecure-cluster if its network is private"
    )


def _has_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _requires_token(address: str) -> bool:
    """Returns whether the cluster refuses a process without a token; only a new process can be without one."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", TOKEN_PROBE, address], env=environment, check=False, capture_output=True
    )
    return done.returncode == REJECTED


def stop() -> None:
    """Leaves the cluster; a local Ray ends with it."""
    ray.shutdown()


def is_loopback(host: str) -> bool:
    """Returns whether a host name means this machine only."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
