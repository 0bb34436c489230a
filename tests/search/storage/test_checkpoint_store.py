"""Checkpoints in a store: file://, which has the same file system interface as s3://."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.cli import ENVIRONMENT, CommandError
from config.errors import ConfigError
from search.execution import worker
from search.messages import REPORT, TASK, TrialTask, WorkerTask
from search.space.space import Space
from search.storage import preconditions
from search.storage.checkpoint_store import CheckpointStore
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

ReadSpace = Callable[..., Space]
KEYS = {"model": "spikformer_cifar", "dataset": "digits", "embed_dim": 16, "num_heads": 2, "depths": 1, "step": 1}
KEYS |= {"img_size": 8, "patch_size": 2, "in_channels": 1, "num_classes": 10, "epochs": 3, "batch_size": 256}


@pytest.fixture
def address(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, *epochs: int) -> None:
    folder.mkdir(exist_ok=True)
    for epoch in epochs:
        (folder / f"epoch_{epoch:04d}.pt").write_text(f"state {epoch}")
        (folder / f"epoch_{epoch:04d}.sha256").write_text(f"sum {epoch}")


def test_a_checkpoint_is_downloaded_as_it_was_uploaded_and_old_ones_are_deleted(tmp_path: Path, address: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write(here, 1, 2)
    CheckpointStore(address).upload(here)
    (here / "epoch_0001.pt").unlink()
    (here / "epoch_0001.sha256").unlink()
    write(here, 3)
    CheckpointStore(address).upload(here)
    CheckpointStore(address).download(there)
    assert names(there) == ["epoch_0002.pt", "epoch_0002.sha256", "epoch_0003.pt", "epoch_0003.sha256"]
    assert (there / "epoch_0003.pt").read_text() == "state 3"


def test_a_stored_checkpoint_is_not_sent_twice(tmp_path: Path, address: str) -> None:
    write(tmp_path / "here", 1)
    CheckpointStore(address).upload(tmp_path / "here")
    sent = (tmp_path / "store" / "epoch_0001.pt").stat().st_mtime_ns
    CheckpointStore(address).upload(tmp_path / "here")
    assert (tmp_path / "store" / "epoch_0001.pt").stat().st_mtime_ns == sent


def test_a_folder_that_is_gone_does_not_empty_the_store(tmp_path: Path, address: str) -> None:
    write(tmp_path / "here", 1)
    CheckpointStore(address).upload(tmp_path / "here")
    with pytest.raises(FileNotFoundError):
        CheckpointStore(address).upload(tmp_path / "gone")
    assert names(tmp_path / "store") == ["epoch_0001.pt", "epoch_0001.sha256"]


def test_an_incomplete_file_is_never_downloaded(tmp_path: Path, address: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".epoch_0002.pt").write_text("sta")
    CheckpointStore(address).download(tmp_path / "there")
    assert names(tmp_path / "there") == []


@pytest.mark.parametrize(
    ("storage", "database", "checkpoints"),
    [
        ("s3://bucket/runs/", None, "s3://bucket/runs/small"),
        ("postgresql://me@host/db", "postgresql://me@host/db", None),
        ("{study: 'postgresql://me@host/db', checkpoints: 'file:///kept'}", "postgresql://me@host/db", "file:///kept/small"),
    ],
)  # fmt: skip
def test_the_key_storage_names_the_database_and_the_checkpoint_store(
    storage: str, database: str | None, checkpoints: str | None, read_space: ReadSpace
) -> None:
    settings = read_space(f"storage={storage}").settings
    assert (settings.database, settings.checkpoints) == (database, checkpoints)


@pytest.mark.parametrize(
    ("storage", "text"),
    [
        ("{checkpoints: 'postgresql://host/db'}", "must be the URI of a file system, such as s3://BUCKET/FOLDER"),
        ("{study: 's3://bucket'}", "must be the address of a database"),
        ("s3://key:secret@bucket/runs", "holds a password"),
    ],
)
def test_an_invalid_storage_is_refused(storage: str, text: str, read_space: ReadSpace) -> None:
    with pytest.raises(ConfigError, match=text):
        read_space(f"storage={storage}")


def test_a_store_that_cannot_be_written_is_an_error_of_the_environment() -> None:
    with pytest.raises(CommandError, match=r"storage file:///proc/kept: cannot be written") as raised:
        preconditions.check_checkpoint_store("file:///proc/kept")
    assert raised.value.code == ENVIRONMENT


def test_a_trial_resumes_on_another_machine_from_the_store(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    def report(result: dict[str, Any]) -> None:
        epochs.append(result[REPORT].metrics.epoch)
        if epochs == [1, 2]:
            raise SystemExit

    def run_on(machine: str) -> None:
        worker.run_trial({TASK: WorkerTask((TrialTask(0, KEYS, str(tmp_path / machine / "t0000"), address),))})

    monkeypatch.setattr(worker.tune, "report", report)
    with pytest.raises(SystemExit):
        run_on("one")
    run_on("two")
    assert epochs == [1, 2, 2, 3]
    assert names(tmp_path) == ["store"]


def test_checkpoints_of_ended_trials_are_deleted_and_those_of_the_front_downloaded(
    open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics], tmp_path: Path
) -> None:
    stored = tmp_path / "store" / "small" / "checkpoints"
    study = open_study(f"storage={(tmp_path / 'store').as_uri()}", "scheduler={name: none}", "budget.trials=2")
    for accuracy, number in ((60.0, 0), (70.0, 1)):
        task = study.next_task()
        assert task is not None
        assert task.store_uri == (stored / f"t{number:04d}").as_uri()
        (stored / f"t{number:04d}").mkdir(parents=True)
        write(stored / f"t{number:04d}", 9)
        for at in range(1, 10):
            study.on_result(number, epoch(at, accuracy, 0.1))
    study.download_front_checkpoints()
    study.close()
    assert names(stored) == ["t0001"]
    assert names(tmp_path / "checkpoints" / "t0001") == ["epoch_0009.pt", "epoch_0009.sha256"]
