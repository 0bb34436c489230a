"""The check of each node before its first trial; the answers of nodes are synthetic."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from search.execution import node_checks
from search.execution.cluster import Cluster, ClusterError, Node
from search.messages import NodeInfo

NODE = Node("c0ffee00" * 7, "gpu-box", 4, 1)


@pytest.fixture
def warnings() -> list[str]:
    return []


def check(
    folder: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str], data_dir: str | None = None, **differing: object
) -> None:
    """Checks a node that is like this machine except for `differing`."""
    monkeypatch.setattr(
        node_checks, "_node_infos", lambda cluster, path, data_dir: {NODE: found(path, data_dir, **differing)}
    )
    with node_checks.node_registry(folder, data_dir, warnings.append) as nodes:
        nodes.check(Cluster((NODE,)))


def found(path: str, data_dir: str | None = None, **differing: object) -> NodeInfo:
    here = node_checks.node_info(path, data_dir)
    versions = {**here.versions, **differing.pop("versions", {})}  # type: ignore[dict-item]
    return replace(here, versions=versions, **differing)  # type: ignore[arg-type]


def test_a_node_like_this_one_gives_no_warning_and_the_folder_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    check(tmp_path, monkeypatch, warnings)
    assert warnings == []
    assert not list(tmp_path.iterdir())


def test_a_node_with_other_versions_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    check(tmp_path, monkeypatch, warnings, versions={"torch": "1.0"})
    (warning,) = warnings
    assert warning.startswith("node gpu-box (c0ffee00) has other versions: torch 1.0 (here 2.")


def test_a_node_without_a_dependency_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"gpu-box \(c0ffee00\) lacks timm; install"):
        check(tmp_path, monkeypatch, warnings, versions={"timm": None})


def test_a_node_that_does_not_see_the_studys_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"does not see .*give one with --out"):
        check(tmp_path, monkeypatch, warnings, token=None)


def test_a_node_without_the_datas_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"has no folder .*nowhere, which data_dir names"):
        check(tmp_path, monkeypatch, warnings, data_dir=str(tmp_path / "nowhere"))


def test_a_node_that_joins_is_checked_once_and_its_versions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(node_checks, "current_nodes", lambda: Cluster((NODE,)))
    with node_checks.node_registry(tmp_path, None, warnings.append) as nodes:
        there = found(str(nodes.path), versions={"torch": "1.0"})
        assert [nodes.admits(NODE.id, there) for _ in range(2)] == [True, True]
    assert len(warnings) == 1
    assert warnings[0].startswith("node gpu-box (c0ffee00) has other versions: torch 1.0 (here 2.")


def test_a_node_that_joins_and_does_not_see_the_studys_folder_gets_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(node_checks, "current_nodes", lambda: Cluster((NODE,)))
    with node_checks.node_registry(tmp_path, None, warnings.append) as nodes:
        assert [nodes.admits(NODE.id, found("/nowhere")) for _ in range(2)] == [False, False]
        assert nodes.requirements().unfit == (NODE.id,)
    assert len(warnings) == 1
    assert re.search(r"gpu-box \(c0ffee00\) does not see .*It gets no trials", warnings[0])
