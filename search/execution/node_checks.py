"""Looks at each node before a trial runs there: whether it has what a trial needs, and sees the study's folder.

Those that are there at the start are asked before the first trial. On a node that joins later the first trial to come
there says what it finds, and waits for the driver's word.
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
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execution import gpu_shares
from search.execution.cluster import Cluster, ClusterError, Node, current_nodes

PACKAGES = ("torch", "torchvision", "timm", "spikingjelly", "ray", "optuna", "pydantic", "numpy", "pyyaml")
ANSWER_S = 90.0
"""Seconds in which every node must answer; the first task on a node unpacks our packages."""


@dataclass(frozen=True)
class NodeInfo:
    """What a node says of itself: the versions it has, None where a package is missing, what it read, and the memory of
    its smallest card."""

    versions: Mapping[str, str | None]
    read: str | None
    has_data: bool
    card_gib: float | None = None


@dataclass
class NodeRegistry:
    """Which nodes have been looked at, and which cannot run a trial. `say` is told what is wrong with a node.

    Where checkpoints are kept elsewhere, the study's folder is not shared and no node has to see it. `card_gib` is the
    memory of the smallest card of those that can.
    """

    path: Path
    token: str
    data_dir: str | None
    say: Callable[[str], None]
    is_shared: bool = True
    checked: set[str] = field(default_factory=set)
    unfit: set[str] = field(default_factory=set)
    card_gib: float | None = None
    _mine: Mapping[str, str | None] = field(default_factory=lambda: node_info(None, None).versions)

    def check(self, cluster: Cluster) -> None:
        """Looks at the nodes that are there before the first trial.

        Raises ClusterError, naming the node, where one lacks a package, does not see the study's folder or the data's,
        or does not answer.
        """
        for node, found in _ask(cluster, str(self.path), self.data_dir).items():
            self._evaluate(node.id, node.host, found)
            self.checked.add(node.id)

    def admits(self, id: str, found: NodeInfo) -> bool:
        """Returns whether a node that joined later may run trials, from what a worker on it found there."""
        if id not in self.checked:
            self.checked.add(id)
            host = next((node.host for node in current_nodes().nodes if node.id == id), "")
            try:
                self._evaluate(id, host, found)
            except ClusterError as error:
                self.unfit.add(id)
                self.say(f"{error}. It gets no trials")
        return id not in self.unfit

    def instructions(self) -> dict[str, Any]:
        """Returns what a trial has to know: whether its node has been looked at, and what to look at where not."""
        return {
            "known": sorted(self.checked),
            "unfit": sorted(self.unfit),
            "path": str(self.path),
            "data_dir": self.data_dir,
        }

    def _evaluate(self, id: str, host: str, found: NodeInfo) -> None:
        where = f"node {host} ({id[:8]})"
        if missing := [name for name, version in found.versions.items() if version is None]:
            raise ClusterError(f"{where} lacks {', '.join(missing)}; install the dependencies there")
        if self.is_shared and found.read != self.token:
            raise ClusterError(
                f"{where} does not see {self.path.parent}; checkpoints must be on a file system that all nodes "
                f"share: give one with --out, or keep checkpoints in a store (storage in the space file)"
            )
        if not found.has_data:
            raise ClusterError(f"{where} has no folder {self.data_dir}, where data_dir says the data is")
        self.card_gib = min((gib for gib in (self.card_gib, found.card_gib) if gib is not None), default=None)
        mine, theirs = self._mine, found.versions
        if differing := [f"{name} {theirs[name]} (here {mine[name]})" for name in mine if theirs[name] != mine[name]]:
            self.say(f"{where} has other versions: {', '.join(differing)}")


@contextmanager
def node_registry(
    folder: Path, data_dir: str | None, say: Callable[[str], None], *, is_shared: bool = True
) -> Iterator[NodeRegistry]:
    """Yields a roster of no nodes; inside, the study's folder holds a file by which nodes show that they see it."""
    made = NodeRegistry(folder.absolute() / f".seen-from-{os.getpid()}", secrets.token_hex(8), data_dir, say, is_shared)
    made.path.write_text(made.token)
    try:
        yield made
    finally:
        made.path.unlink(missing_ok=True)


def node_info(path: str | None, data_dir: str | None) -> NodeInfo:
    """Returns what the machine that this runs on has."""
    versions: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    try:
        read = None if path is None else Path(path).read_text()
    except OSError:
        read = None
    return NodeInfo(versions, read, data_dir is None or Path(data_dir).is_dir(), gpu_shares.card_gib())


def _ask(cluster: Cluster, path: str, data_dir: str | None) -> dict[Node, NodeInfo]:
    ask = ray.remote(num_cpus=0, max_retries=0)(node_info)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            path, data_dir
        ): node
        for node in cluster.nodes
        if node.cpus
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    if late:
        names = ", ".join(f"{asked[one].host} ({asked[one].id[:8]})" for one in late)
        raise ClusterError(f"no answer within {ANSWER_S:.0f} s from node {names}")
    answers = {}
    for one in ready:
        try:
            answers[asked[one]] = ray.get(one)
        except ray.exceptions.RayError as error:
            node, reason = asked[one], str(error).strip().splitlines()
            raise ClusterError(
                f"node {node.host} ({node.id[:8]}) cannot run our packages: {reason[-1] if reason else error!r}"
            ) from None
    return answers
