"""Delivers to MLflow what it lacks of a study that is not running: `python -m search.sync runs/quickstart`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from config import cli
from config.cli import CommandError, add_folder
from config.errors import ConfigError
from config.uris import redact
from results.folder import check_study

if TYPE_CHECKING:
    from search.tracking.mlflow_mirror import MlflowMirror


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input, 4 MLflow, 5 a driver holds the study)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.sync", description=__doc__)
    add_folder(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="another MLflow store or server than the study's own")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    from search.storage import lock

    folder: Path = arguments.folder
    check_study(folder)
    try:
        with lock.hold(folder):
            print(deliver(folder, arguments.tracking_uri))
    except lock.LockedError:
        text = f"{folder}: its search runs ({lock.holder(folder)}) and delivers to MLflow by itself"
        raise CommandError(cli.LOCKED, text) from None
    except OSError as error:
        raise CommandError(cli.ENVIRONMENT, f"{folder}: {error}") from None
    return cli.OK


def deliver(folder: Path, tracking_uri: str | None) -> str:
    """Writes to MLflow what it lacks of the study, and returns what was done. Raises Failed where MLflow is away."""
    import results
    from config.messages import root_cause
    from results.metrics import ResultsError
    from search.tracking import mlflow_mirror

    try:
        study = results.load(folder)
    except ResultsError as error:
        raise ConfigError(str(error)) from None
    own = study.attrs.get("space", {}).get("tracking_uri")
    uri, artifacts = mlflow_mirror.resolve_store(tracking_uri or own, folder)
    try:
        mirror = mlflow_mirror.MlflowMirror.open(uri, study, artifacts)
        mirror.finish(study, folder, "FINISHED" if mlflow_mirror.is_finished(study) else "KILLED")
    except mlflow_mirror.store_errors() as error:
        raise CommandError(cli.ENVIRONMENT, f"MLflow cannot be written: {redact(uri)}: {root_cause(error)}. Nothing is lost; "
                     f"the same command goes on where this ended") from error  # fmt: skip
    return f"{redact(uri)}: {_done(mirror)}"


def _done(mirror: MlflowMirror) -> str:
    if not mirror.runs:
        return "nothing was missing"
    return f"{_count(len(mirror.runs), 'run')} and {_count(mirror.num_epochs, 'epoch')} delivered"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if __name__ == "__main__":
    sys.exit(main())
