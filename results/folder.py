"""Files in a study's folder: its database, or the address of one on a server, and its space file."""

from __future__ import annotations

from pathlib import Path

import yaml

from config.errors import did_you_mean
from results.metrics import ResultsError

DATABASE_FILE = "study.db"
SPACE_FILE = "space.yml"
"""The study's copy of its space file."""
URL_FILE = "study.url"
"""Holds the address of a database server, without its password, which is in the environment or in `~/.pgpass`."""


def study_location(folder: Path) -> Path | str | None:
    """Returns the path or the address of the study's database, or None if the folder has neither."""
    if (folder / DATABASE_FILE).is_file():
        return folder / DATABASE_FILE
    address = folder / URL_FILE
    return address.read_text(encoding="utf-8").strip() if address.is_file() else None


def study_name(folder: Path) -> str:
    """Returns the name of the folder's study, from its space file, else the folder's name."""
    try:
        found = yaml.safe_load((folder / SPACE_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # missing, or not valid after an edit
        found = None
    return str(found["study"]) if isinstance(found, dict) and "study" in found else folder.name


def find_studies(out: Path) -> list[Path]:
    """Returns the folders of all studies in `out`."""
    return sorted({path.parent for name in (DATABASE_FILE, URL_FILE) for path in out.glob(f"*/{name}")})


def check_study(folder: Path) -> None:
    """Raises ResultsError if the folder holds no study."""
    try:
        if study_location(folder) is not None:
            return
    except OSError as error:  # a name too long, a folder that may not be read
        raise ResultsError(f"{folder}: cannot be read ({error.strerror})") from error
    if folder.is_file():
        raise ResultsError(f"{folder}: is a file; give the folder of a study, such as {folder.parent}")
    problem = "there is no study.db in it." if folder.is_dir() else "no such study folder."
    raise ResultsError(
        f"{folder}: {problem}{list_known(folder.name, [path.name for path in find_studies(folder.parent)])}"
    )


def list_known(name: str, others: list[str]) -> str:
    """Returns ` Did you mean x?` with the nearest of the others, else ` There are: ...` with all of them."""
    return did_you_mean(name, others) or (f" There are: {', '.join(others)}." if others else "")
