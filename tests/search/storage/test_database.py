"""A study in a database outside its folder; tests/cluster does the same with a real PostgreSQL."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import results
from config.cli import ENVIRONMENT, CommandError
from config.errors import ConfigError
from config.uris import redact
from results.folder import check_study
from search.space.space import Space
from search.storage.database import open_database, open_storage
from search.storage.study import Study

ReadSpace = Callable[..., Space]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shared.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "small"
    path.mkdir(parents=True)
    return path


def run(folder: Path, space: Space, trials: int = 1) -> None:
    with open_database(folder, space.study, space.settings.database) as storage:
        study = Study(space, folder, storage or open_storage(folder))
        for _ in range(trials):
            study.next_task()
        study.close()


def test_a_study_in_another_database_is_found_through_its_folder(folder: Path, url: str, read_space: ReadSpace) -> None:
    space = read_space(f"storage={url}")
    run(folder, space, trials=2)
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "study.url"]
    check_study(folder)
    assert [trial.number for trial in results.load(folder).trials] == [0, 1]
    run(folder, space)
    assert len(results.load(folder).trials) == 2


def test_a_study_of_another_folder_is_not_joined(folder: Path, url: str, read_space: ReadSpace) -> None:
    space = read_space(f"storage={url}")
    run(folder, space)
    other = folder.parents[1] / "others" / "small"
    other.mkdir(parents=True)
    with pytest.raises(ConfigError, match="already holds a study small of another folder"):
        run(other, space)
    assert list(other.iterdir()) == []


def test_a_study_cannot_move_to_another_storage(folder: Path, url: str, read_space: ReadSpace) -> None:
    run(folder, read_space(f"storage={url}"))
    with pytest.raises(ConfigError, match="its study is stored in sqlite"):
        run(folder, read_space())
    with pytest.raises(ConfigError, match="holds no study of its name"):
        run(folder, read_space(f"storage={url}2"))
    local = folder.parent / "local"
    local.mkdir()
    run(local, read_space("study=local"))
    with pytest.raises(ConfigError, match=r"its study is stored in study\.db"):
        run(local, read_space("study=local", f"storage={url}"))


def test_a_database_that_moved_is_found_at_its_new_address(folder: Path, url: str, read_space: ReadSpace) -> None:
    run(folder, read_space(f"storage={url}"))
    shutil.copy(url.removeprefix("sqlite:///"), folder.parent / "moved.db")
    moved = f"sqlite:///{folder.parent / 'moved.db'}"
    run(folder, read_space(f"storage={moved}"))
    assert (folder / "study.url").read_text() == moved + "\n"


@pytest.mark.parametrize("address", ["sqlite:////no/such/folder/study.db", "mysql+nothing://host/studies"])
def test_a_database_that_cannot_be_opened_is_an_error_of_the_environment(
    address: str, folder: Path, read_space: ReadSpace
) -> None:
    with pytest.raises(CommandError, match=f"storage {address.replace('+', '.')}: ") as raised:
        run(folder, read_space(f"storage={address}"))
    assert raised.value.code == ENVIRONMENT


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, CommandError), (errno.ENOENT, FileNotFoundError)])
def test_a_full_disk_is_reported_and_other_errors_are_not_hidden(
    folder: Path, number: int, expected: type[Exception]
) -> None:
    with pytest.raises(expected), open_database(folder, "small", None):
        raise OSError(number, "what happened", str(folder / "events.jsonl"))


def test_a_write_waits_for_a_locked_database_and_then_fails(
    folder: Path, read_space: ReadSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, read_space())
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("begin immediate")
        monkeypatch.setattr("search.storage.database.LOCKED_S", 0.1)
        with pytest.raises(CommandError, match=r"study\.db: database is locked\. What was recorded") as raised:
            run(folder, read_space("budget.trials=20"))
        assert raised.value.code == ENVIRONMENT
        monkeypatch.setattr("search.storage.database.LOCKED_S", 30.0)
        threading.Timer(0.5, other.execute, ("rollback",)).start()
        run(folder, read_space("budget.trials=20"))


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:secret@host/db", "postgresql://host/db?user=me&password=secret"],
)
def test_an_address_with_a_password_is_refused_and_not_shown(address: str, read_space: ReadSpace) -> None:
    with pytest.raises(ConfigError, match="storage: holds a password") as raised:
        read_space(f"storage={address}")
    assert "secret" not in redact(str(raised.value))


@pytest.mark.parametrize("address", ["runs/study.db", "ftp://host/study", "postgres", "http://host"])
def test_an_address_that_is_not_a_database_is_refused(address: str, read_space: ReadSpace) -> None:
    with pytest.raises(ConfigError, match="storage: must be the address of a database"):
        read_space(f"storage={address}")
