"""Ray tasks of a confirmation: training to the end with another seed, and reading the test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from config.cli import import_packages
from search.execution.gpu_process import end_if_context_is_lost, limit_memory
from search.execution.worker import (
    Outcomes,
    checkpoint_folder,
    classify_failure,
    train_batch,
    train_config,
    train_single,
)
from search.execution.worker_start import WorkerStart
from search.messages import Failure, TrialTask, WorkerTask
from search.space.schema import Resources
from trainers.config import TrainConfig
from trainers.diagnostics.health import TrainingFailure
from trainers.epoch_metrics import EpochMetrics

ReadOuts = list[dict[str, Any]]
"""Metrics of a trained network, one row per read-out and exit point."""


@ray.remote(max_retries=3)  # type: ignore[untyped-decorator]  # ray has no types
def retrain(task: WorkerTask) -> list[ReadOuts | Failure]:
    """Trains all trials of a task to the end. Returns the last read-outs, or the failure, of each.

    A member that the batch did not finish continues alone from its checkpoint.
    """
    import_packages(task.imports)
    found: dict[int, ReadOuts | Failure] = {}
    last_epochs = [TrainConfig.model_validate(trial.config).epochs for trial in task.trials]

    def keep_last(outcomes: Outcomes) -> None:
        for i, outcome in outcomes.items():
            if isinstance(outcome, TrainingFailure):
                found[i] = classify_failure(outcome)
            elif isinstance(outcome, EpochMetrics) and outcome.epoch == last_epochs[i]:
                found[i] = _read_outs(outcome)

    limit_memory(task.resources.gpu)
    if task.is_batch:
        with suppress(Exception):
            train_batch(dict(enumerate(task.trials)), keep_last)
        end_if_context_is_lost()
    return [found[i] if i in found else retrain_single(trial) for i, trial in enumerate(task.trials)]


def retrain_single(trial: TrialTask) -> ReadOuts | Failure:
    """Trains one trial to the end."""
    epochs: list[EpochMetrics] = []
    try:
        train_single(trial, epochs.append)
    except Exception as error:  # a training raises anything
        end_if_context_is_lost()
        return classify_failure(error)
    return _read_outs(epochs[-1])


def _read_outs(metrics: EpochMetrics) -> ReadOuts:
    return [{**metrics.metrics, **read_out} for read_out in [*metrics.read_outs, *metrics.exits]]


@ray.remote(max_retries=3)  # type: ignore[untyped-decorator]
def evaluate_test(task: WorkerTask) -> ReadOuts | Failure:
    """Returns the read-outs on the test set of the checkpoint that `retrain` saved, or a failure."""
    import_packages(task.imports)
    from models import create_model
    from trainers import checkpoint
    from trainers.train import measure_test, prepare

    [trial] = task.trials
    try:
        limit_memory(task.resources.gpu)
        config = train_config(trial)
        device = prepare(config)
        model = create_model(config).to(device)
        with checkpoint_folder(trial) as folder:
            state = checkpoint.load_newest(folder, device)
        if state is None:
            return Failure("error", f"{trial.folder} holds no whole checkpoint")
        model.load_state_dict(state["model"])
        found = measure_test(model, config, state["report"].get("exits", ()))
        return [*found.read_outs, *found.exits]
    except Exception as error:  # the test set may be missing where the training set is not
        end_if_context_is_lost()
        return classify_failure(error)


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]
def start_worker() -> None:
    """Does nothing; that it ends shows that workers start."""


def run_all(function: Any, tasks: Sequence[Any], resources: Resources, concurrency: int) -> Iterator[tuple[int, Any]]:
    """Runs a Ray task on each of `tasks`, at most `concurrency` at a time; yields (position, result) as each ends.

    A task that raised, or whose process died repeatedly, has a Failure as its result. Raises CommandError if no worker
    starts.
    """
    start, first = WorkerStart(print), start_worker.remote()
    queued = list(enumerate(tasks))
    running: dict[Any, int] = {}
    remote = function.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
    while queued or running:
        while queued and len(running) < concurrency:
            position, task = queued.pop(0)
            running[remote.remote(task)] = position
        done, _ = ray.wait(list(running), timeout=0.5)
        if done or ray.wait([first], timeout=0)[0]:
            start.end()
        start.poll()
        for reference in done:
            yield running.pop(reference), _result(reference)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except OutOfMemoryError as error:
        return Failure("oom", str(error).strip())
    except RayTaskError as error:
        return Failure("error", str(error).strip())
    except RayError as error:
        return Failure("killed", str(error).strip())
