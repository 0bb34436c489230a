"""Delivers to MLflow what is missing there of a study that does not run: `python -m search.sync runs/quickstart`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import results
from config import cli
from config.cli import CommandError
from config.messages import root_cause
from config.uris import redact
from results.folder import check_study
from results.metrics import counted
from search.storage import lock


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input, 4 MLflow, 5 a driver holds the study)."""
    parser = cli.Parser(prog="python -m search.sync", description=__doc__)
    cli.add_folder(parser)
    parser.add_argument("--tracking-uri", metavar="URI", help="an MLflow store or server other than the study's own")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments.folder, arguments.tracking_uri))


def _main(folder: Path, tracking_uri: str | None) -> int:
    check_study(folder)
    try:
        with lock.hold(folder):
            print(deliver(folder, tracking_uri))
    except lock.LockedError:
        text = f"{folder}: its search runs ({lock.holder(folder)}) and delivers to MLflow by itself"
        raise CommandError(cli.LOCKED, text) from None
    except OSError as error:
        raise CommandError(cli.ENVIRONMENT, f"{folder}: {error}") from None
    return cli.OK


def deliver(folder: Path, tracking_uri: str | None) -> str:
    """Writes to MLflow what is missing there of the study, and returns a summary.

    Raises CommandError if MLflow is unreachable.
    """
    from search.tracking import mlflow_mirror

    study = results.load(folder)
    own = study.attrs.get("space", {}).get("tracking_uri")
    uri, artifacts = mlflow_mirror.resolve_store(tracking_uri or own, folder)
    try:
        mirror = mlflow_mirror.MlflowMirror.open(uri, study, artifacts)
        mirror.finish(study, folder, "FINISHED" if mlflow_mirror.is_finished(study) else "KILLED")
    except mlflow_mirror.store_errors() as error:
        text = f"MLflow cannot be written: {redact(uri)}: {root_cause(error)}. Nothing is lost"
        raise CommandError(cli.ENVIRONMENT, f"{text}; the same command resumes the delivery") from error
    runs, epochs = len(mirror.runs), mirror.num_epochs
    delivered = f"{counted(runs, 'run')} and {counted(epochs, 'epoch')} delivered"
    return f"{redact(uri)}: {delivered if runs else 'nothing was missing'}"


if __name__ == "__main__":
    sys.exit(main())
