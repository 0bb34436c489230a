"""Loading a study from its folder or from MLflow; both give the same result."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from results.from_mlflow import load_experiment
from results.from_optuna import load_folder
from results.metrics import ResultsError
from results.study import StudyResult


def load(
    folder: str | os.PathLike[str] | None = None, *, tracking_uri: str | None = None, experiment: str | None = None
) -> StudyResult:
    """Returns the study in `runs/<study>`, or the one that MLflow holds under the experiment's name."""
    if folder is not None:
        if tracking_uri or experiment:
            raise ResultsError("give a study folder, or a tracking URI and an experiment, but not both")
        return load_folder(Path(folder))
    if tracking_uri is None and experiment is None:
        raise ResultsError("give a study folder such as runs/quickstart, or a tracking URI and an experiment")
    return load_experiment(tracking_uri, experiment)


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a study: its folder, or an experiment in MLflow."""
    parser.add_argument("folder", nargs="?", help="the study's folder, such as runs/quickstart")
    add_tracking_arguments(parser)


def add_tracking_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name an experiment in MLflow."""
    parser.add_argument("--tracking-uri", help="read the study from MLflow instead")
    parser.add_argument("--experiment", help="the study's name in MLflow")


def load_from_arguments(arguments: argparse.Namespace) -> tuple[StudyResult, Path]:
    """Returns the study that the arguments name, and its folder; for a study in MLflow, `runs/<study>`."""
    study = load(arguments.folder, tracking_uri=arguments.tracking_uri, experiment=arguments.experiment)
    return study, Path(arguments.folder or Path("runs") / study.name)
