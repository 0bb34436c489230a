"""The look at each node before the first trial; the answers of nodes are made up here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from search.execution import node_checks
from search.execution.cluster import Cluster, ClusterError, Node
from search.execution.node_checks import NodeInfo

NODE = Node("c0ffee00" * 7, "gpu-box", 4, 1)


@pytest.fixture
def say() -> list[str]:
    return []


def look(
    folder: Path, monkeypatch: pytest.MonkeyPatch, say: list[str], data_dir: str | None = None, **differing: object
) -> None:
    """Looks at a node that is like this machine but for what is given."""
    monkeypatch.setattr(node_checks, "_ask", lambda cluster, path, data_dir: {NODE: found(path, data_dir, **differing)})
    with node_checks.node_registry(folder, data_dir, say.append) as roster:
        roster.check(Cluster((NODE,)))


def found(path: str, data_dir: str | None = None, **differing: object) -> NodeInfo:
    here = node_checks.node_info(path, data_dir)
    versions = {**here.versions, **differing.pop("versions", {})}  # type: ignore[dict-item]
    return replace(here, versions=versions, **differing)  # type: ignore[arg-type]


def test_a_node_like_this_one_needs_no_word_and_the_folder_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    look(tmp_path, monkeypatch, say)
    assert say == []
    assert not list(tmp_path.iterdir())


def test_a_node_with_other_versions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]) -> None:
    look(tmp_path, monkeypatch, say, versions={"torch": "1.0"})
    (sentence,) = say
    assert sentence.startswith("node gpu-box (c0ffee00) has other versions: torch 1.0 (here 2.")


def test_a_node_without_a_dependency_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"gpu-box \(c0ffee00\) lacks timm; install"):
        look(tmp_path, monkeypatch, say, versions={"timm": None})


def test_a_node_that_does_not_see_the_studys_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"does not see .*give one with --out"):
        look(tmp_path, monkeypatch, say, read=None)


def test_a_node_without_the_datas_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    with pytest.raises(ClusterError, match=r"has no folder .*nowhere, where data_dir says the data is"):
        look(tmp_path, monkeypatch, say, data_dir=str(tmp_path / "nowhere"))


def test_a_node_that_joins_is_looked_at_once_and_its_versions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    monkeypatch.setattr(node_checks, "current_nodes", lambda: Cluster((NODE,)))
    with node_checks.node_registry(tmp_path, None, say.append) as roster:
        there = found(str(roster.path), versions={"torch": "1.0"})
        assert [roster.admits(NODE.id, there) for _ in range(2)] == [True, True]
    assert len(say) == 1
    assert say[0].startswith("node gpu-box (c0ffee00) has other versions: torch 1.0 (here 2.")


def test_a_node_that_joins_and_does_not_see_the_studys_folder_gets_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: list[str]
) -> None:
    monkeypatch.setattr(node_checks, "current_nodes", lambda: Cluster((NODE,)))
    with node_checks.node_registry(tmp_path, None, say.append) as roster:
        assert [roster.admits(NODE.id, found("/nowhere")) for _ in range(2)] == [False, False]
        assert roster.instructions()["unfit"] == [NODE.id]
    assert len(say) == 1
    assert re.search(r"gpu-box \(c0ffee00\) does not see .*It gets no trials", say[0])
