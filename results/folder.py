"""What tells a study's folder: its database, or the address of the one that a team shares; and its space file."""

from __future__ import annotations

from pathlib import Path

import yaml

DATABASE = "study.db"
SPACE = "space.yml"
"""The study's own copy of its space file."""
ADDRESS = "study.url"
"""Holds the address of a database elsewhere, without a password: that is in the environment or in `~/.pgpass`."""


def place(folder: Path) -> Path | str | None:
    """Returns where the folder's study is kept: its database file, an address, or None where there is none."""
    if (folder / DATABASE).is_file():
        return folder / DATABASE
    address = folder / ADDRESS
    return address.read_text(encoding="utf-8").strip() if address.is_file() else None


def name_of(folder: Path) -> str:
    """Returns the name of the folder's study: as its space file says, also where the folder was renamed."""
    try:
        found = yaml.safe_load((folder / SPACE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # none there, or one that was edited badly
        found = None
    return str(found["study"]) if isinstance(found, dict) and "study" in found else folder.name


def studies(out: Path) -> list[Path]:
    """Returns the folders of all studies in `out`."""
    return sorted({path.parent for name in (DATABASE, ADDRESS) for path in out.glob(f"*/{name}")})
