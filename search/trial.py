"""What runs on a worker: one training, reported epoch by epoch; whatever goes wrong is reported too."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from trainers.config import TrainConfig
from trainers.data import DataError, Split, from_arrays, load_train, to_arrays
from trainers.health import FailureClass, TrainingFailure
from trainers.metrics import EpochMetrics


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # ray has no types
def load_shared(keys: dict[str, Any], imports: list[str]) -> tuple[Any, ...]:
    """Loads a config's data into the object store, where all trials of a machine read one copy."""
    _import(imports)
    return to_arrays(load_train(TrainConfig.model_validate(keys)))


def run_trial(task: dict[str, Any]) -> None:
    """Trains the task's config and reports each epoch to Ray Tune; ends early when Tune says so.

    A failure is a last report with its class and reason, so that Tune retries only trials whose process died.
    """
    _import(task["imports"])
    from trainers.train import train  # two seconds, once a worker; the driver, which hands this function on, is spared

    config = TrainConfig.model_validate(task["config"])
    try:
        train(config, _report, Path(task["folder"]), parts=_shared(task["data"]))
    except TrainingFailure as failure:
        _report_failure(failure.kind, str(failure))
    except MemoryError:
        _report_failure("oom", "out of memory (RAM)")
    except Exception as error:  # the class of failure for whatever the code raises
        kind: FailureClass = "oom" if "out of memory" in str(error).lower() else "error"
        where = "" if isinstance(error, DataError) else "\n" + _last_lines(error)
        _report_failure(kind, f"{type(error).__name__}: {error}{where}")


def _import(packages: list[str]) -> None:
    for package in packages:
        importlib.import_module(package)


def _shared(reference: Any) -> tuple[Split, Split] | None:
    """Returns this machine's copy of the data. Raises what loading it raised."""
    try:
        return None if reference is None else from_arrays(ray.get(reference))
    except RayTaskError as error:
        raise error.cause from None


def _report(report: EpochMetrics) -> None:
    tune.report({"epoch": report.epoch, "report": report})  # an object: Tune would flatten a dict


def _report_failure(kind: FailureClass, reason: str) -> None:
    tune.report({"failure": kind, "reason": reason})


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip()
