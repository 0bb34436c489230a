"""Fault tolerance: restarts of trials whose worker process died, ran out of memory or stalled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

from search.execution.cluster import current_nodes, lost_nodes
from search.execution.watchdog import Watchdog
from search.messages import REPORT, BatchProgress, NodeReport, task_of
from search.space.schema import Resources
from search.storage.study import Study

MAX_RESTARTS = 3
"""Restarts of a trial whose process died."""

OUT_OF_MEMORY = "out of memory (RAM): its process was ended when the machine ran out of it"

OnChange = Callable[[int], None]
"""Called with the number of a trial that started, reported or ended."""


class NotPickled:
    """Keeps the live study out of Tune's snapshots, which no search resumes from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RestartPolicy(NotPickled, tune.Callback):  # type: ignore[misc]  # ray has no types
    """Ends trials whose process died too often, and kills the processes of stalled ones.

    Tune itself restarts a trial after each death, from its checkpoint and without a limit. Deaths around the loss of a
    node do not count. Of a batch any member may be the cause, so its members are retried alone.
    """

    def __init__(
        self,
        study: Study,
        on_change: OnChange,
        lost: Callable[[], int] = lost_nodes,
        need: Resources = Resources(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self.study = study
        self.on_change = on_change
        self.need = need
        self.lost = lost
        self._watchdog = Watchdog()
        self._lost_at_first = lost()
        self._at_start: dict[int, tuple[int, int]] = {}  # lost nodes and crashes when a trial started
        self._crashes: Counter[int] = Counter()
        self._killed: set[int] = set()
        self._out_of_memory = False

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watchdog.start(trial, time.monotonic())
        number, lost = task_of(trial).number, self.lost()
        lost_before, crashes_before = self._at_start.get(number, (lost, 0))
        if lost > lost_before:  # the node's loss may have caused the crashes since then
            self._crashes[number] = crashes_before
        self._at_start[number] = (lost, self._crashes[number])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if not isinstance(result[REPORT], NodeReport | BatchProgress):  # a trial without epochs is stalled
            self._watchdog.report(trial, time.monotonic())

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watchdog.remove(trial)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watchdog.remove(trial)
        task = task_of(trial)
        if task.number in self._killed:
            self._killed.remove(task.number)
            if task.is_batch or self.study.trials[task.number].state != "running":
                self.study.to_stop.add(task.number)
        elif self._out_of_memory:
            self._after_out_of_memory(task.number, task.is_batch)
        else:
            self._after_crash(task.number, task.is_batch)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial, seconds in self._watchdog.stalled(time.monotonic()).items():
            self._kill(trial, f"no epoch for {seconds:.0f} s")

    @contextmanager
    def as_actor_error(self, error: Exception) -> Iterator[Exception]:
        """Yields the error as one that Tune recovers from, and records whether memory was the cause."""
        self._out_of_memory = isinstance(error, OutOfMemoryError)
        try:
            yield RayActorError(error_msg=str(error)) if self._out_of_memory else error
        finally:
            self._out_of_memory = False

    def _kill(self, trial: Any, reason: str) -> None:
        task = task_of(trial)
        if not task.is_batch and not self.study.record_retry(task.number, "stalled", reason):
            self.study.on_error(task.number, "stalled", f"{reason}, for the second time")
        self._killed.add(task.number)
        self._watchdog.remove(trial)
        self.on_change(task.number)
        ray.kill(trial.temporary_state.ray_actor)

    def _after_out_of_memory(self, number: int, is_batch: bool) -> None:
        self.study.to_stop.add(number)
        if is_batch:
            return
        if retry_with_more(self.study, self.need, number, OUT_OF_MEMORY):
            self.study.to_requeue.add(number)
        else:
            self.study.on_error(number, "oom", OUT_OF_MEMORY)
        self.on_change(number)

    def _after_crash(self, number: int, is_batch: bool) -> None:
        self._crashes[number] += 1
        lost_before, _ = self._at_start.get(number, (self._lost_at_first, 0))
        if self._crashes[number] <= MAX_RESTARTS or self.lost() > lost_before:
            return
        self.study.to_stop.add(number)
        if is_batch:
            self._crashes[number] = 0
            return
        self.study.on_error(number, "killed", f"its process ended {self._crashes[number]} times")
        self.on_change(number)


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Passes the death of a process for lack of memory to Tune as any other death."""

    def __init__(self, resource_manager: Any, restarts: RestartPolicy | None = None) -> None:
        super().__init__(resource_manager=resource_manager)
        if restarts is not None:  # the base class's `cleanup` calls this method a second time, without it
            self._restarts = restarts

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        with self._restarts.as_actor_error(exception) as error:
            super()._actor_start_failed(tracked_actor, error)

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        with self._restarts.as_actor_error(exception) as error:
            super()._actor_task_failed(tracked_actor_task, error)


@contextmanager
def recover_from_out_of_memory(restarts: RestartPolicy) -> Iterator[None]:
    """Makes Tune recover from workers that Ray's memory monitor ended.

    Ray reports them by OutOfMemoryError, which is not a RayActorError, and Tune 2.60's actor manager ends the whole run
    on any other class. TuneController creates the manager by its module's name and takes no other one, so that name is
    replaced while the run lasts.
    """
    tune_controller.RayActorManager = partial(ActorManager, restarts=restarts)
    try:
        yield
    finally:
        tune_controller.RayActorManager = RayActorManager


def retry_with_more(study: Study, need: Resources, number: int, reason: str) -> bool:
    """Records the retry of a trial that ran out of memory. Returns False the second time, or if it had the most."""
    return current_nodes().more_resources(need) is not None and study.record_retry(number, "oom", reason)
