"""What the commands on a study take alike: its folder, and packages of the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.config import ConfigError


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that names a study."""
    parser.add_argument("folder", type=Path, help="the study's folder, such as runs/quickstart")


def add_imports(parser: argparse.ArgumentParser, which: str = "the study was started with") -> None:
    """Adds the option for packages that register models or data sets."""
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="PACKAGE",
                        help=f"a package of your own that {which}")  # fmt: skip


def check_study(folder: Path) -> None:
    """Raises ConfigError where the folder holds no study."""
    from results.load import missing

    text = missing(folder)
    if text is not None:
        raise ConfigError(text)
