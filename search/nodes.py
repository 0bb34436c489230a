"""Looks at each node before the first trial: whether it has what a trial needs, and sees the study's folder."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.cluster import Cluster, ClusterError, Node

PACKAGES = ("torch", "torchvision", "timm", "spikingjelly", "ray", "optuna", "pydantic", "numpy", "pyyaml")
ANSWER_S = 90.0
"""Seconds in which every node must answer; the first task on a node unpacks our packages."""


@dataclass(frozen=True)
class Facts:
    """What a node says of itself: the versions it has, None where a package is missing, and what it read."""

    versions: Mapping[str, str | None]
    read: str | None
    has_data: bool


def check(cluster: Cluster, folder: Path, data_dir: str | None = None) -> list[str]:
    """Returns a sentence on each node whose versions differ from this process's.

    Raises ClusterError, naming the node, where one lacks a package, does not see the study's folder or the data's,
    or does not answer.
    """
    token = secrets.token_hex(8)
    path = folder.absolute() / f".seen-from-{os.getpid()}"
    path.write_text(token)
    try:
        answers = _ask(cluster, path, data_dir)
    finally:
        path.unlink(missing_ok=True)
    mine = facts(None, None).versions
    sentences = []
    for node, found in answers.items():
        where = f"node {node.host} ({node.id[:8]})"
        if missing := [name for name, version in found.versions.items() if version is None]:
            raise ClusterError(f"{where} lacks {', '.join(missing)}; install the dependencies there")
        if found.read != token:
            raise ClusterError(
                f"{where} does not see {folder.absolute()}; checkpoints must be on a file system that all nodes "
                f"share: give one with --out"
            )
        if not found.has_data:
            raise ClusterError(f"{where} has no folder {data_dir}, where data_dir says the data is")
        if differing := [
            f"{name} {version} (here {mine[name]})" for name, version in found.versions.items() if version != mine[name]
        ]:
            sentences.append(f"{where} has other versions: {', '.join(differing)}")
    return sentences


def facts(path: str | None, data_dir: str | None) -> Facts:
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
    return Facts(versions, read, data_dir is None or Path(data_dir).is_dir())


def _ask(cluster: Cluster, path: Path, data_dir: str | None) -> dict[Node, Facts]:
    ask = ray.remote(num_cpus=0, max_retries=0)(facts)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            str(path), data_dir
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
