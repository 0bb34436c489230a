"""Where the study is kept: in its folder, or in a database that a team shares (`storage:` in the space file)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from config.cli import ENVIRONMENT, CommandError
from config.errors import ConfigError
from config.files import DISK_FULL, write_atomic
from config.messages import root_cause
from results.folder import ADDRESS, DATABASE, study_location
from results.uris import sqlite
from search.storage.lock import LockedError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Connection

JOURNAL = f"{DATABASE}-wal"
LOCK = "select pg_try_advisory_lock(hashtext(:name))"
BROKEN: tuple[type[Exception], ...] = (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError)
"""What a database raises that is away, full, locked or damaged."""
KEEPALIVES = {"tcp_keepalives_idle": 60, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 6}
"""Seconds after which the server asks a silent driver's machine whether it is there, and between two of so many times
without an answer: two minutes until the lock of one that is lost is free."""
LOCKED_S = 60.0
"""Seconds that a write waits for another program that holds the database."""


class RelaxedConnection(sqlite3.Connection):
    """A connection whose commits leave it to the system when the disk gets them; `wait_for_disk` says when it must."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.execute("PRAGMA synchronous=NORMAL")


def open_storage(folder: Path) -> BaseStorage:
    """Returns the SQLite storage in the study's folder.

    Its journal is a write-ahead log, and no commit waits for the disk: what belongs together waits once, at its end.
    """
    path = (folder / DATABASE).absolute()
    with closing(sqlite3.connect(path, LOCKED_S)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    connect = {"factory": RelaxedConnection, "timeout": LOCKED_S}
    return optuna.storages.RDBStorage(sqlite(path), {"connect_args": connect})


def sync_to_disk(folder: Path) -> None:
    """Returns when the disk has all that was committed to the study in the folder; elsewhere the server saw to that.

    What is not in the journal any more is in the database itself: SQLite waited for that before it moved it there.
    """
    try:
        journal = os.open(folder / JOURNAL, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(journal)
    finally:
        os.close(journal)


def merge_journal(folder: Path) -> None:
    """Moves what the journal holds into the database, so that `study.db` alone is the study; a full disk can wait."""
    if (folder / JOURNAL).exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(folder / DATABASE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def open_database(folder: Path, study: str, url: str | None) -> Iterator[BaseStorage | None]:
    """Opens the study's database elsewhere, and keeps other drivers from it; yields None where its folder has it.

    Raises ConfigError where the folder's study is kept elsewhere or another folder's study has the name, LockedError
    where a driver, on whatever machine, has the study open, Failed where the database fails, inside as well.
    """
    kept = study_location(folder)
    if url is None:
        if isinstance(kept, str):
            raise ConfigError(f"{folder}: its study is kept in {kept}; add that as storage to the space file")
        with _told(str(folder / DATABASE)):
            yield None
        return
    if isinstance(kept, Path):
        raise ConfigError(f"{folder}: its study is kept in {DATABASE}, so storage cannot be {url}; take another --name")
    with _told(f"storage {url}", ImportError):
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        try:
            with storage.engine.connect() as connection:
                _lock(connection, study, url)
                _record_address(storage, folder, study, url, kept)
                yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _told(where: str, *others: type[Exception]) -> Iterator[None]:
    """Inside, what the database raises, and `others`, become a sentence: Failed."""
    failures: tuple[type[Exception], ...] = (*BROKEN, *others, OSError)
    try:
        yield
    except failures as error:
        if isinstance(error, OSError) and error.errno not in DISK_FULL:
            raise
        sentence = f"{where}: {root_cause(error)}. What was recorded there is not lost, and the same command goes on"
        raise CommandError(ENVIRONMENT, sentence) from error


def _lock(connection: Connection, study: str, url: str) -> None:
    """Takes a lock that ends with the connection, where the database has such; elsewhere the folder's must do."""
    if connection.dialect.name != "postgresql":
        return
    free = connection.execution_options(isolation_level="AUTOCOMMIT")
    for setting, value in KEEPALIVES.items():
        free.execute(text(f"set {setting} = {value}"))
    if not free.execute(text(LOCK), {"name": study}).scalar():
        raise LockedError(f"study {study} in {url} is being run by another driver; wait for it, or take another --name")


def _record_address(storage: RDBStorage, folder: Path, study: str, url: str, kept: str | None) -> None:
    """Notes in the folder where its study is, before there is one. Raises ConfigError where it is not this folder's."""
    exists = any(known.study_name == study for known in storage.get_all_studies())
    if exists and kept is None:
        raise ConfigError(
            f"{url} holds a study {study} already, of another folder. Take another --name; to go on with that one, "
            f"use its folder, or put the address into {folder / ADDRESS}"
        )
    if kept not in (None, url) and not exists:
        raise ConfigError(f"{folder}: its study is kept in {kept}, and there is none of its name in {url}")
    write_atomic(folder / ADDRESS, url + "\n")
