"""One run of Ray Tune: executes the trials of a study until it suggests no more."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ray import tune
from ray.air._internal import usage
from ray.widgets import util

from config import cli, interrupts
from search.execution.cluster import Slots
from search.execution.fault_tolerance import NotPickled, OnChange, RestartPolicy, recover_from_out_of_memory
from search.execution.node_checks import NodeRegistry
from search.execution.ray_scheduler import RayScheduler
from search.execution.ray_searcher import RaySearcher
from search.execution.worker import placement, run_trial
from search.execution.worker_start import WorkerStart
from search.storage.study import Study


def run_trials(
    study: Study,
    slots: Slots,
    on_change: OnChange,
    imports: tuple[str, ...] = (),
    on_step: Callable[[], None] = lambda: None,
    batch_size: int = 1,
    nodes: NodeRegistry | None = None,
    worker_start: WorkerStart | None = None,
) -> None:
    """Runs trials until the study suggests no more, as many at a time as there are slots.

    `imports` are user packages that each worker imports; `on_step` is called after each step of Tune's loop; up to
    `batch_size` trials train as one batched model; `nodes` checks the nodes that join; `worker_start` reports that no
    worker starts. Raises Interrupted, and CommandError if the machine caused a failure (a full disk, missing data).
    """
    restarts = RestartPolicy(study, on_change, need=slots.need)
    scheduler = RayScheduler(study, slots.need, on_change, nodes)
    searcher = RaySearcher(study, slots, on_change, imports, batch_size, nodes)
    with (
        tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(1, thread_name_prefix="suggest") as suggestions,
        warnings.catch_warnings(),
        recover_from_out_of_memory(restarts),
        without_usage_report(),
    ):
        study.scheduler.run_in_background(suggestions)
        warnings.simplefilter("ignore")  # Tune's own notices; ours are shown by the live view
        tuner = tune.Tuner(
            tune.with_resources(run_trial, placement),
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name=study.space.study,
                storage_path=scratch,
                verbose=0,
                progress_reporter=SilentReporter() if util.in_notebook() else None,
                failure_config=tune.FailureConfig(max_failures=-1),  # RestartPolicy counts them
                callbacks=[StepHook(on_step, scheduler, searcher, worker_start), restarts],
            ),
        )
        with interrupts.deferred():  # an exception in the middle of Ray's own code becomes a SystemError
            tuner.fit()
        del tuner
    gc.collect()  # Ray 2.60 aborts the process if one of its references is dropped while another thread shuts it down


class SilentReporter(tune.ProgressReporter):  # type: ignore[misc]  # Ray's classes are untyped
    """In place of the reporter that Tune uses in notebooks, which erases the output of the cell at its start."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Returns that nothing is reported."""
        return False


@contextmanager
def without_usage_report() -> Iterator[None]:
    """Keeps Tune from importing every integration, to count our callbacks for a usage report that is switched off.

    One of them is MLflow, which another thread may import at that moment; each could then find a module that the other
    has only begun to import.
    """
    with mock.patch.object(usage, "tag_callbacks", return_value=False):
        yield


class StepHook(NotPickled, tune.Callback):  # type: ignore[misc]  # ray has no types
    """Work after each step of Tune's loop, about ten times a second: interruptions, errors, and `on_step`."""

    def __init__(
        self,
        on_step: Callable[[], None],
        scheduler: RayScheduler,
        searcher: RaySearcher,
        worker_start: WorkerStart | None = None,
    ) -> None:
        self.on_step = on_step
        self.scheduler = scheduler
        self.searcher = searcher
        self.worker_start = worker_start

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.worker_start is not None:
            self.worker_start.end()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        interrupts.check()
        if self.scheduler.environment_error is not None:
            raise cli.CommandError(cli.ENVIRONMENT, self.scheduler.environment_error)
        if self.worker_start is not None and trials:
            self.worker_start.poll()
        self.searcher.requeue_dropped(trials)
        self.on_step()
