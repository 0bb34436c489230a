"""The database of a study: SQLite in its folder, or a shared database server (`storage:` in the space file)."""

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
from config.uris import sqlite
from results.folder import DATABASE_FILE, URL_FILE, study_location
from search.storage.lock import LockedError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Connection

JOURNAL = f"{DATABASE_FILE}-wal"
LOCK = "select pg_try_advisory_lock(hashtext(:name))"
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError, OSError)
"""Errors of a database that is unreachable, full, locked or damaged."""
KEEPALIVES = {"tcp_keepalives_idle": 60, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 6}
"""Seconds of silence before the server probes the driver's machine, seconds between probes, and number of probes: the
lock of a lost machine is free after two minutes."""
LOCKED_S = 60.0
"""Seconds that a write waits for another program that has locked the database."""


class RelaxedConnection(sqlite3.Connection):
    """A connection whose commits do not wait for the disk; `sync_to_disk` does."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.execute("PRAGMA synchronous=NORMAL")


def open_storage(folder: Path) -> BaseStorage:
    """Returns the SQLite storage in the study's folder, with a write-ahead log.

    No commit waits for the disk: `sync_to_disk` waits once for several.
    """
    path = (folder / DATABASE_FILE).absolute()
    with closing(sqlite3.connect(path, LOCKED_S)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    connect = {"factory": RelaxedConnection, "timeout": LOCKED_S}
    return optuna.storages.RDBStorage(sqlite(path), {"connect_args": connect})


def sync_to_disk(folder: Path) -> None:
    """Waits until all commits to the study in the folder are on disk; a database server does so by itself.

    Only the journal needs it: SQLite waits for the disk whenever it moves the journal into the database.
    """
    with suppress(FileNotFoundError), (folder / JOURNAL).open("rb") as journal:
        os.fsync(journal.fileno())


def merge_journal(folder: Path) -> None:
    """Moves the journal into the database, so that `study.db` alone is the study; on a full disk it remains."""
    if (folder / JOURNAL).exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(folder / DATABASE_FILE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def open_database(folder: Path, study: str, url: str | None) -> Iterator[BaseStorage | None]:
    """Opens the study's database at `url` and locks the study in it; yields None for a study in its folder.

    Raises ConfigError if the folder's study is stored elsewhere or the name belongs to the study of another folder,
    and LockedError if another driver has the study open. Raises CommandError if the database fails, also inside the
    block.
    """
    location = study_location(folder)
    if url is None:
        if isinstance(location, str):
            raise ConfigError(f"{folder}: its study is stored in {location}; add that as storage to the space file")
        with _database_errors_reported(str(folder / DATABASE_FILE)):
            yield None
        return
    if isinstance(location, Path):
        raise ConfigError(
            f"{folder}: its study is stored in {DATABASE_FILE}, so storage cannot be {url}; give another --name"
        )
    with _database_errors_reported(f"storage {url}", ImportError):
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        try:
            with storage.engine.connect() as connection:
                _lock(connection, study, url)
                _save_address(storage, folder, study, url, location)
                yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _database_errors_reported(where: str, *others: type[Exception]) -> Iterator[None]:
    """Converts errors of the database, and `others`, into a CommandError."""
    try:
        yield
    except DATABASE_ERRORS + others as error:
        if isinstance(error, OSError) and error.errno not in DISK_FULL:
            raise
        text = f"{where}: {root_cause(error)}. What was recorded there is not lost; the same command resumes the search"
        raise CommandError(ENVIRONMENT, text) from error


def _lock(connection: Connection, study: str, url: str) -> None:
    """Takes a lock that ends with the connection, on PostgreSQL; elsewhere only that of the folder protects a study."""
    if connection.dialect.name != "postgresql":
        return
    session = connection.execution_options(isolation_level="AUTOCOMMIT")
    for setting, value in KEEPALIVES.items():
        session.execute(text(f"set {setting} = {value}"))
    if not session.execute(text(LOCK), {"name": study}).scalar():
        raise LockedError(f"study {study} in {url} is being run by another driver; wait for it, or give another --name")


def _save_address(storage: RDBStorage, folder: Path, study: str, url: str, location: str | None) -> None:
    """Writes the address of the study into its folder. Raises ConfigError if it is the study of another folder."""
    exists = study in [summary.study_name for summary in storage.get_all_studies()]
    if exists and location is None:
        raise ConfigError(
            f"{url} already holds a study {study} of another folder. Give another --name; to resume that one, "
            f"use its folder, or put the address into {folder / URL_FILE}"
        )
    if location not in (None, url) and not exists:
        raise ConfigError(f"{folder}: its study is stored in {location}, and {url} holds no study of its name")
    write_atomic(folder / URL_FILE, url + "\n")
