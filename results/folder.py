"""What tells a study's folder: its database, or the address of the one that a team shares; and its space file."""

from __future__ import annotations

from pathlib import Path

import yaml

from config.errors import ConfigError
from results.metrics import nearest

DATABASE = "study.db"
SPACE = "space.yml"
"""The study's own copy of its space file."""
ADDRESS = "study.url"
"""Holds the address of a database elsewhere, without a password: that is in the environment or in `~/.pgpass`."""


def study_location(folder: Path) -> Path | str | None:
    """Returns where the folder's study is kept: its database file, an address, or None where there is none."""
    if (folder / DATABASE).is_file():
        return folder / DATABASE
    address = folder / ADDRESS
    return address.read_text(encoding="utf-8").strip() if address.is_file() else None


def study_name(folder: Path) -> str:
    """Returns the name of the folder's study: as its space file says, also where the folder was renamed."""
    try:
        found = yaml.safe_load((folder / SPACE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # none there, or one that was edited badly
        found = None
    return str(found["study"]) if isinstance(found, dict) and "study" in found else folder.name


def find_studies(out: Path) -> list[Path]:
    """Returns the folders of all studies in `out`."""
    return sorted({path.parent for name in (DATABASE, ADDRESS) for path in out.glob(f"*/{name}")})


def missing_study(folder: Path) -> str | None:
    """Returns the sentence for a folder without a study, or None where there is one."""
    try:
        return _no_study(folder) if study_location(folder) is None else None
    except OSError as error:  # a name too long, a folder that may not be read
        return f"{folder}: cannot be read ({error.strerror})"


def _no_study(folder: Path) -> str:
    known = [path.name for path in find_studies(folder.parent)]
    if folder.is_file():
        return f"{folder}: is a file; give the folder of a study, such as {folder.parent}"
    if folder.is_dir():
        return f"{folder}: there is no study.db in it.{_known(folder.name, known)}"
    return f"{folder}: no such study folder.{_known(folder.name, known)}"


def _known(name: str, others: list[str]) -> str:
    return nearest(name, others) or (f" There are: {', '.join(others)}." if others else "")


def check_study(folder: Path) -> None:
    """Raises ConfigError where the folder holds no study."""
    text = missing_study(folder)
    if text is not None:
        raise ConfigError(text)
