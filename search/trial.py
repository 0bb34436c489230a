"""What runs on a worker: one training, reported epoch by epoch; whatever goes wrong is reported too."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Any

from ray import tune

from trainers.config import TrainConfig
from trainers.data import DataError
from trainers.health import FailureClass, TrainingFailure
from trainers.train import EpochMetrics, train


def run_trial(task: dict[str, Any]) -> None:
    """Trains the task's config and reports each epoch to Ray Tune; ends early when Tune says so.

    A failure is a last report with its class and reason, so that Tune retries only trials whose process died.
    """
    for package in task["imports"]:
        importlib.import_module(package)
    config = TrainConfig.model_validate(task["config"])
    try:
        train(config, _report, Path(task["folder"]))
    except TrainingFailure as failure:
        _report_failure(failure.kind, str(failure))
    except MemoryError:
        _report_failure("oom", "out of memory (RAM)")
    except Exception as error:  # the class of failure for whatever the code raises
        kind: FailureClass = "oom" if "out of memory" in str(error).lower() else "error"
        where = "" if isinstance(error, DataError) else "\n" + _last_lines(error)
        _report_failure(kind, f"{type(error).__name__}: {error}{where}")


def _report(report: EpochMetrics) -> None:
    tune.report({"epoch": report.epoch, "report": report})  # an object: Tune would flatten a dict


def _report_failure(kind: FailureClass, reason: str) -> None:
    tune.report({"failure": kind, "reason": reason})


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip()
