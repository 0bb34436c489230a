"""Node checks: package versions, data folder and access to the study's folder, before a trial runs on a node.

Nodes that are present at the start are checked before the first trial. On a node that joins later, the first trial
reports what it finds there and waits for the driver's decision.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execution import gpu_shares
from search.execution.cluster import Cluster, ClusterError, Node, current_nodes
from search.messages import NodeInfo, NodeRequirements

PACKAGES = ("torch", "torchvision", "timm", "spikingjelly", "ray", "optuna", "pydantic", "numpy", "pyyaml")
ANSWER_S = 90.0
"""Timeout of the nodes' answers in seconds; the first task on a node unpacks our packages."""


@dataclass
class NodeRegistry:
    """Nodes that have been checked, and those that cannot run a trial; `warn` is called with a message on a node.

    Unless `is_shared`, checkpoints are in a store, and nodes need not see the study's folder. `gpu_memory_gib` is the
    memory of the smallest GPU of all accepted nodes.
    """

    path: Path
    token: str
    data_dir: str | None
    warn: Callable[[str], None]
    is_shared: bool = True
    checked: set[str] = field(default_factory=set)
    unfit: set[str] = field(default_factory=set)
    gpu_memory_gib: float | None = None
    _own_versions: Mapping[str, str | None] = field(default_factory=lambda: node_info(None, None).versions)

    def check(self, cluster: Cluster) -> None:
        """Checks all nodes before the first trial.

        Raises ClusterError, naming the node, if one lacks a package, the study's folder or the data's, or does not
        answer.
        """
        for node, info in _node_infos(cluster, str(self.path), self.data_dir).items():
            self._evaluate(node.id, node.host, info)
            self.checked.add(node.id)

    def admits(self, id: str, info: NodeInfo) -> bool:
        """Returns whether a node that joined later may run trials, from the report of a worker on it."""
        if id not in self.checked:
            self.checked.add(id)
            host = next((node.host for node in current_nodes().nodes if node.id == id), "")
            try:
                self._evaluate(id, host, info)
            except ClusterError as error:
                self.unfit.add(id)
                self.warn(f"{error}. It gets no trials")
        return id not in self.unfit

    def requirements(self) -> NodeRequirements:
        """Returns what a worker needs to check its node, if the driver has not."""
        return NodeRequirements(tuple(sorted(self.checked)), tuple(sorted(self.unfit)), str(self.path), self.data_dir)

    def _evaluate(self, id: str, host: str, info: NodeInfo) -> None:
        where = f"node {host} ({id[:8]})"
        if missing := [name for name, version in info.versions.items() if version is None]:
            raise ClusterError(f"{where} lacks {', '.join(missing)}; install the dependencies there")
        if self.is_shared and info.token != self.token:
            raise ClusterError(
                f"{where} does not see {self.path.parent}; checkpoints must be on a file system that all nodes "
                f"share: give one with --out, or keep checkpoints in a store (storage in the space file)"
            )
        if not info.has_data:
            raise ClusterError(f"{where} has no folder {self.data_dir}, which data_dir names")
        known = [gib for gib in (self.gpu_memory_gib, info.gpu_memory_gib) if gib is not None]
        self.gpu_memory_gib = min(known, default=None)
        own, found = self._own_versions, info.versions
        if differing := [f"{name} {found[name]} (here {own[name]})" for name in own if found[name] != own[name]]:
            self.warn(f"{where} has other versions: {', '.join(differing)}")


@contextmanager
def node_registry(
    folder: Path, data_dir: str | None, warn: Callable[[str], None], *, is_shared: bool = True
) -> Iterator[NodeRegistry]:
    """Yields an empty registry; within the block, the study's folder has a token file that nodes must read."""
    path, token = folder.absolute() / f".seen-from-{os.getpid()}", secrets.token_hex(8)
    path.write_text(token)
    try:
        yield NodeRegistry(path, token, data_dir, warn, is_shared)
    finally:
        path.unlink(missing_ok=True)


def node_info(token_path: str | None, data_dir: str | None) -> NodeInfo:
    """Returns the properties of this machine."""
    versions: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    try:
        token = None if token_path is None else Path(token_path).read_text()
    except OSError:
        token = None
    return NodeInfo(versions, token, data_dir is None or Path(data_dir).is_dir(), gpu_shares.gpu_memory_gib())


def _node_infos(cluster: Cluster, token_path: str, data_dir: str | None) -> dict[Node, NodeInfo]:
    """Runs `node_info` on each node. Raises ClusterError, naming the node, if one fails or does not answer in time."""
    remote = ray.remote(num_cpus=0, max_retries=0)(node_info)
    pending = {}
    for node in cluster.nodes:
        if node.cpus:
            here = NodeAffinitySchedulingStrategy(node.id, soft=False)
            pending[remote.options(scheduling_strategy=here).remote(token_path, data_dir)] = node
    _, late = ray.wait(list(pending), num_returns=len(pending), timeout=ANSWER_S)
    if late:
        names = ", ".join(f"{pending[one].host} ({pending[one].id[:8]})" for one in late)
        raise ClusterError(f"no answer within {ANSWER_S:.0f} s from node {names}")
    infos = {}
    for reference, node in pending.items():
        try:
            infos[node] = ray.get(reference)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            raise ClusterError(
                f"node {node.host} ({node.id[:8]}) cannot run our packages: {lines[-1] if lines else error!r}"
            ) from None
    return infos
