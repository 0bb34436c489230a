"""Trials that fit on a cluster, and packages that are sent to it; no Ray is started here."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.execution import cluster
from search.execution.cluster import Cluster, ClusterError, Node, Slots
from search.space.schema import Resources

TWO_GPUS = Node("a" * 56, "one", cpus=16, gpus=2)
ONE_CORE = Node("b" * 56, "two", cpus=1, gpus=0)


@pytest.mark.parametrize(
    ("cpu", "gpu", "slots"),
    [(1, 0, 16), (2, 0, 8), (0.1, 0, 160), (1, 0.25, 8), (1, 0.4, 4), (1, 0.1, 16), (1, 1, 2), (1, 2, 1), (1, 3, 0)],
)
def test_a_gpu_share_uses_a_single_gpu(cpu: float, gpu: float, slots: int) -> None:
    assert TWO_GPUS.slots(Resources(cpu=cpu, gpu=gpu)) == slots


def test_a_trial_uses_a_single_node() -> None:
    assert Cluster((ONE_CORE, ONE_CORE, ONE_CORE)).concurrency(Resources(cpu=1), None) == 3
    with pytest.raises(ClusterError, match="asks for 2 CPU and 0 GPU, but the cluster's largest node has 1 CPU"):
        Cluster((ONE_CORE, ONE_CORE, ONE_CORE)).concurrency(Resources(cpu=2), None)


def test_no_more_trials_run_than_requested() -> None:
    assert Cluster((TWO_GPUS, ONE_CORE)).concurrency(Resources(cpu=1), 5) == 5


def test_slots_follow_the_nodes_and_report_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [ONE_CORE, ONE_CORE]
    monkeypatch.setattr(cluster, "current_nodes", lambda: Cluster(tuple(nodes)))
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    reported: list[int] = []
    slots = Slots(Resources(), None, 2, lambda count, now: reported.append(count))
    nodes.append(TWO_GPUS)
    assert slots() == 18
    del nodes[1:]
    assert slots() == 1
    nodes.clear()
    assert slots() == 1  # trials wait for a new node
    assert reported == [18, 1]


def test_a_node_that_cannot_run_a_trial_gives_no_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "current_nodes", lambda: Cluster((ONE_CORE, TWO_GPUS)))
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    assert Slots(Resources(), None, 1, unfit={TWO_GPUS.id})() == 1


def test_our_packages_and_the_users_are_sent_with_their_files() -> None:
    folders = [Path(folder) for folder in cluster.packages(["examples.own_model"])]
    assert [folder.name for folder in folders] == ["config", "models", "trainers", "search", "results", "examples"]
    assert (folders[2] / "recipes" / "spikformer" / "digits.yml").exists()


def test_a_package_full_of_data_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").touch()
    with (tmp_path / "heavy" / "images.bin").open("wb") as file:
        file.truncate(21 * 2**20)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ClusterError, match="heavy would be sent to every node, but holds 21 MiB"):
        cluster.packages(["heavy"])


def test_a_single_file_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lonely_module.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ClusterError, match="--import lonely_module: must be a package"):
        cluster.packages(["lonely_module"])


@pytest.mark.parametrize(
    ("cpu", "gpu", "expected"),
    [(1, 0.25, (1, 0.5)), (1, 0.7, (1, 1)), (4, 0, (8, 0)), (12, 0, (16, 0)), (1, 1, None), (16, 0, None)],
)
def test_more_memory_is_a_larger_share_of_the_gpu_or_of_the_node(
    cpu: float, gpu: float, expected: tuple[float, float] | None
) -> None:
    found = Cluster((TWO_GPUS, ONE_CORE)).more_resources(Resources(cpu=cpu, gpu=gpu))
    assert expected == (None if found is None else (found.cpu, found.gpu))


def test_a_ray_that_does_not_start_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**how: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(cluster.ray, "init", init)
    with pytest.raises(ClusterError, match=r"Ray could not be started here: The current node timed out"):
        cluster.start()
