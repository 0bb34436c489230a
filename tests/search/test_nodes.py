"""The look at each node before the first trial; the answers of nodes are made up here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search import nodes
from search.cluster import Cluster, ClusterError, Node
from search.nodes import Facts

NODE = Node("c0ffee00" * 7, "gpu-box", 4, 1)


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, data_dir: str | None = None, **differing: object) -> list[str]:
    """Looks at a node that is like this machine but for what is given."""

    def ask(cluster: Cluster, path: Path, data_dir: str | None) -> dict[Node, Facts]:
        here = nodes.facts(str(path), data_dir)
        versions = {**here.versions, **differing.pop("versions", {})}  # type: ignore[dict-item]
        return {NODE: replace(here, versions=versions, **differing)}  # type: ignore[arg-type]

    monkeypatch.setattr(nodes, "_ask", ask)
    return nodes.check(Cluster((NODE,)), folder, data_dir)


def test_a_node_like_this_one_needs_no_word_and_the_folder_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(tmp_path, monkeypatch) == []
    assert not list(tmp_path.iterdir())


def test_a_node_with_other_versions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sentence,) = check(tmp_path, monkeypatch, versions={"torch": "1.0"})
    assert sentence.startswith("node gpu-box (c0ffee00) has other versions: torch 1.0 (here 2.")


def test_a_node_without_a_dependency_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"gpu-box \(c0ffee00\) lacks timm; install"):
        check(tmp_path, monkeypatch, versions={"timm": None})


def test_a_node_that_does_not_see_the_studys_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"does not see .*give one with --out"):
        check(tmp_path, monkeypatch, read=None)


def test_a_node_without_the_datas_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"has no folder .*nowhere, where data_dir says the data is"):
        check(tmp_path, monkeypatch, data_dir=str(tmp_path / "nowhere"))
