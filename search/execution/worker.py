"""Training on a Ray worker: one trial or one batch of trials, reported to the driver after each epoch."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from config.cli import import_packages
from config.files import DISK_FULL
from search.execution.gpu_process import end_if_context_is_lost, limit_memory
from search.execution.node_checks import node_info
from search.messages import (
    REPORT,
    TASK,
    BatchProgress,
    BatchReport,
    EpochReport,
    Failure,
    NodeReport,
    Report,
    TrialTask,
    WorkerTask,
)
from search.storage.checkpoint_store import CheckpointStore
from trainers.config import TrainConfig
from trainers.datasets import DataError
from trainers.diagnostics.health import FailureClass, TrainingFailure
from trainers.epoch_metrics import EpochMetrics, OnEpoch

if TYPE_CHECKING:
    from trainers.data.split import Split

Outcomes = Mapping[Any, EpochMetrics | Exception]
"""Metrics of an epoch of each member of a batch, or the exception that ended its training."""

PROGRESS_S = 10.0
"""Seconds between two reports from within an epoch."""

NODE_LABEL = "ray.io/node-id"
"""The label that Ray gives each node."""


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # ray has no types
def load_shared(keys: dict[str, Any], imports: tuple[str, ...]) -> tuple[Any, ...]:
    """Loads a config's data into the object store, where all trials of a machine read one copy."""
    import_packages(imports)
    from trainers.data.sources import load_train, to_arrays

    return to_arrays(load_train(TrainConfig.model_validate(keys)))


def placement(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Returns the resources that Ray reserves for a task, on a node that can run it."""
    task: WorkerTask = config[TASK]
    bundles = [{"CPU": task.resources.cpu, "GPU": task.resources.gpu}]
    if task.nodes is None or not task.nodes.unfit:
        return tune.PlacementGroupFactory(bundles)
    selector = [{NODE_LABEL: f"!in({','.join(task.nodes.unfit)})"}]
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=selector)


def run_trial(config: Mapping[str, Any]) -> None:
    """Runs a task and reports each epoch to Ray Tune, which ends the call early if the driver decides so.

    A failure is reported, not raised: Tune restarts only trials whose process died. Memory is released at the end,
    since the process then runs the next trial.
    """
    try:
        _run(config[TASK])
    finally:
        from trainers.diagnostics.memory import release_memory

        release_memory()


def _run(task: WorkerTask) -> None:
    if task.nodes is not None and (node_id := ray.get_runtime_context().get_node_id()) not in task.nodes.checked:
        _send(NodeReport(node_id, node_info(task.nodes.token_path, task.nodes.data_dir)))
    import_packages(task.imports)
    try:
        limit_memory(task.resources.gpu)
        if task.is_batch:
            members = {trial.number: trial for trial in task.trials}
            train_batch(members, lambda outcomes: _send(_batch_report(outcomes)), task.data)
        else:
            progress = ProgressReporter(_send)
            train_single(task.trials[0], progress.on_epoch, task.data, progress.on_batch)
    except Exception as error:  # if a batch fails as a whole, each member is retried alone
        end_if_context_is_lost()
        _send(BatchReport({}) if task.is_batch else classify_failure(error))


class ProgressReporter:
    """Sends each epoch, and the batches within an epoch every `interval_s` seconds: the driver's reply takes time."""

    def __init__(self, send: Callable[[Report], None], interval_s: float = PROGRESS_S) -> None:
        self.send, self.interval_s = send, interval_s
        self._epoch, self._sent = 0, time.monotonic()

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Sends the metrics of an epoch."""
        self.send(EpochReport(metrics))
        self._epoch, self._sent = metrics.epoch, time.monotonic()

    def on_batch(self, batch: int, batches: int) -> None:
        """Sends the number of batches that the current epoch has trained, if it is due."""
        if time.monotonic() - self._sent >= self.interval_s:
            self.send(BatchProgress(self._epoch + 1, batch, batches))
            self._sent = time.monotonic()


def _send(report: Report) -> None:
    tune.report({REPORT: report})


def _batch_report(outcomes: Outcomes) -> BatchReport:
    if any(isinstance(outcome, Exception) for outcome in outcomes.values()):
        end_if_context_is_lost()
    return BatchReport({n: classify_failure(o) if isinstance(o, Exception) else o for n, o in outcomes.items()})


def train_single(
    trial: TrialTask,
    on_epoch: OnEpoch,
    data: Any = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> None:
    """Trains a trial from its newest checkpoint; `on_epoch` is called after each epoch's checkpoint is stored.

    `on_batch` gets the batches trained within an epoch, and their number.
    """
    from trainers.train import train  # imports torch, which the driver does not need

    with checkpoint_folder(trial) as folder:

        def upload_and_report(metrics: EpochMetrics) -> None:
            _upload(trial, folder)
            on_epoch(metrics)

        parts = _shared_data(data)
        train(train_config(trial), upload_and_report, folder, on_batch=on_batch, parts=parts, exits=trial.exits)


def train_batch(trials: Mapping[int, TrialTask], on_epoch: Callable[[Outcomes], None], data: Any = None) -> None:
    """Trains several trials as one batched model; a member that fails is an outcome, and the others continue."""
    from trainers.fused.training import FusedJob, train_fused

    with ExitStack() as stack:
        folders = {key: stack.enter_context(checkpoint_folder(trial)) for key, trial in trials.items()}
        jobs: dict[Any, FusedJob] = {
            key: FusedJob(train_config(trial), folders[key], trial.exits) for key, trial in trials.items()
        }

        def upload_and_report(outcomes: Outcomes) -> tuple[int, ...]:
            for key in outcomes:
                _upload(trials[key], folders[key])
            on_epoch(outcomes)
            return ()

        train_fused(jobs, upload_and_report, _shared_data(data))


def train_config(trial: TrialTask) -> TrainConfig:
    """Returns the config of a trial. Ray chooses the GPU and hides the others, so an index has no meaning here."""
    config = TrainConfig.model_validate(trial.config)
    return config.model_copy(update={"device": "cuda"}) if isinstance(config.device, int) else config


def classify_failure(error: Exception) -> Failure:
    """Returns the class and the reason of an exception that a training raised."""
    if isinstance(error, TrainingFailure):
        return Failure(error.failure_class, str(error))
    from trainers.diagnostics.memory import is_out_of_memory

    if isinstance(error, MemoryError):
        return Failure("oom", "out of memory (RAM)")
    if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return Failure("environment", str(error))
    failure_class: FailureClass = "oom" if is_out_of_memory(error) else "error"
    last_frames = "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip()
    return Failure(failure_class, f"{type(error).__name__}: {error}\n{last_frames}")


def _shared_data(reference: Any) -> tuple[Split, Split] | None:
    """Returns the data in this machine's object store. Raises the exception that loading it raised."""
    if reference is None:
        return None
    from trainers.data.sources import from_arrays

    try:
        return from_arrays(ray.get(reference))
    except RayTaskError as error:
        raise error.cause from None


@contextmanager
def checkpoint_folder(trial: TrialTask) -> Iterator[Path]:
    """Yields the folder of a trial's checkpoints, or a temporary copy of those in a store."""
    folder = Path(trial.folder)
    if trial.store_uri is None:
        yield folder
        return
    with TemporaryDirectory(prefix="checkpoints-") as scratch:
        copy = Path(scratch, folder.name)
        CheckpointStore(trial.store_uri).download(copy)
        yield copy


def _upload(trial: TrialTask, folder: Path) -> None:
    if trial.store_uri is not None:
        CheckpointStore(trial.store_uri).upload(folder)
