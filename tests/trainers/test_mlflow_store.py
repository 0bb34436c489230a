"""A new SQLite store is complete or absent, even if its creation is interrupted at any point."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.uris import sqlite
from trainers import mlflow_store

MAKE = "import sys; from trainers import mlflow_store; mlflow_store.create_store(sys.argv[1]); print('made')"


def is_whole(uri: str) -> bool:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri).get_experiment_by_name("none") is None


def test_a_store_is_created_once_and_leaves_no_other_file(tmp_path: Path) -> None:
    uri, path = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    mlflow_store.create_store(uri)
    before = path.stat()
    mlflow_store.create_store(uri)
    assert path.stat().st_ino == before.st_ino
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    assert is_whole(uri)


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a b"])
def test_a_store_is_created_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    uri = sqlite(path)
    mlflow_store.create_store(uri)
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db"]
    assert is_whole(uri)


def test_a_store_can_be_created_after_an_interrupted_creation(tmp_path: Path) -> None:
    uri, path = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    process = subprocess.Popen([sys.executable, "-c", MAKE, uri])
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.05)  # some of the tables are there
    process.kill()
    process.wait()
    assert not path.exists()
    mlflow_store.create_store(uri)
    assert is_whole(uri)


def test_a_store_is_created_on_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    mlflow_store.create_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    assert is_whole(f"sqlite:///{tmp_path}/mlflow.db")


def test_drafts_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    old, new = tmp_path / ".mlflow.db-1", tmp_path / ".mlflow.db-2"
    for file, age_s in ((old, 2 * mlflow_store.ABANDONED_S), (new, 0.0)):
        file.touch()
        os.utime(file, (time.time() - age_s,) * 2)
    mlflow_store.create_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "sqlite:///:memory:", "sqlite:///file:x?mode=ro&uri=true", "runs"]
)
def test_nothing_is_created_for_other_uris(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mlflow_store.create_store(uri)
    assert not list(tmp_path.iterdir())
