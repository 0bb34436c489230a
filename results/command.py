"""What the commands on a study do alike: where the study is, and errors in a sentence with an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from results.load import load
from results.metrics import ResultsError
from results.study import StudyResult
from results.uris import redact


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a study: its folder, or an experiment in MLflow."""
    parser.add_argument("folder", nargs="?", help="the study's folder, such as runs/quickstart")
    parser.add_argument("--tracking-uri", help="read the study from MLflow instead")
    parser.add_argument("--experiment", help="the study's name in MLflow")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments of a command line; a shell that asks what may follow is told, and the process ends."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(argv)


def load_source(arguments: argparse.Namespace) -> tuple[StudyResult, Path]:
    """Returns the study that the arguments name, and its folder (under `runs` where MLflow holds the study)."""
    study = load(arguments.folder, tracking_uri=arguments.tracking_uri, experiment=arguments.experiment)
    return study, Path(arguments.folder or Path("runs") / study.name)


def guarded(body: Callable[[], None]) -> int:
    """Runs a command and returns its exit code: 0 done, 2 the user's input, 4 the disk or MLflow."""
    try:
        body()
    except ResultsError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {redact(text)}", file=sys.stderr)
        return 2 if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError) else 4
    return 0
