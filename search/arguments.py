"""What the commands of a search take alike: a study's folder and a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from models.config import ConfigError


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that names a study."""
    parser.add_argument("folder", type=Path, help="the study's folder, such as runs/quickstart")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the Ray cluster that trainings run on."""
    parser.add_argument("--address", help="address of a running Ray cluster, or auto; by default Ray is started here")
    parser.add_argument("--insecure-cluster", action="store_true", help="join a cluster that asks nobody for a token")


def check_study(folder: Path) -> None:
    """Raises ConfigError where the folder holds no study."""
    from results.load import missing

    text = missing(folder)
    if text is not None:
        raise ConfigError(text)
