"""Worker processes that die, run out of memory or make no progress: who is started again, who has failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

from search.execution.cluster import current_nodes, lost_nodes
from search.execution.watchdog import Watchdog
from search.space.schema import Resources
from search.storage.study import Study

MAX_RESTARTS = 3
"""Times a trial whose process died is started again, from its checkpoint."""

OUT_OF_MEMORY = "out of memory (RAM): its process was ended when the machine ran out of it"

OnChange = Callable[[int], None]
"""Told the number of a trial that started, reported or ended."""


class NotPickled:
    """Tune pickles its parts for a resume that we never use; the live study stays out of it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Tells Tune of a process that Ray ended for want of memory as of any that died; else Tune itself would end."""

    wanted_memory = False
    """Whether the death that Tune is told of at this moment is such a one."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        with self._as_death(exception) as death:
            super()._actor_start_failed(tracked_actor, death)

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        with self._as_death(exception) as death:
            super()._actor_task_failed(tracked_actor_task, death)

    @contextmanager
    def _as_death(self, exception: Exception) -> Iterator[Exception]:
        ActorManager.wanted_memory = isinstance(exception, OutOfMemoryError)
        try:
            yield RayActorError(error_msg=str(exception)) if ActorManager.wanted_memory else exception
        finally:
            ActorManager.wanted_memory = False


tune_controller.RayActorManager = ActorManager


class RestartPolicy(NotPickled, tune.Callback):  # type: ignore[misc]
    """Ends a trial whose process died too often. That a node was lost is no fault of the trials that ran there."""

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
        self._lost_before = lost()
        self._at_start: dict[int, tuple[int, int]] = {}
        self._deaths: Counter[int] = Counter()
        self.ours: set[int] = set()  # whose processes we ended ourselves

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number, lost = trial.config["number"], self.lost()
        lost_then, deaths_then = self._at_start.get(number, (lost, 0))
        if lost > lost_then:  # what died since then may have died with the node
            self._deaths[number] = deaths_then
        self._at_start[number] = (lost, self._deaths[number])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        is_group = bool(trial.config.get("others"))
        if number in self.ours:
            self.ours.remove(number)
            if is_group or self.study.trials[number].state != "running":
                self.study.to_end.add(number)
            return
        if ActorManager.wanted_memory:
            self._ran_out_of_memory(number, is_group)
            return
        self._deaths[number] += 1
        lost_then, _ = self._at_start.get(number, (self._lost_before, 0))
        if self._deaths[number] > MAX_RESTARTS and self.lost() <= lost_then:
            self.study.to_end.add(number)
            if is_group:  # one of its members may be to blame
                self._deaths[number] = 0
                return
            self.study.on_error(number, "killed", f"its process ended {self._deaths[number]} times")
            self.on_change(number)

    def _ran_out_of_memory(self, number: int, is_group: bool) -> None:
        """Has a trial tried once more, with more memory, when Tune has let go of it; of a group, each one alone."""
        self.study.to_end.add(number)
        if is_group:
            return
        if may_retry_with_more(self.study, self.need, number, OUT_OF_MEMORY):
            self.study.to_requeue.add(number)
        else:
            self.study.on_error(number, "oom", OUT_OF_MEMORY)
        self.on_change(number)


class StallDetector(NotPickled, tune.Callback):  # type: ignore[misc]
    """Ends the processes of trials that make no progress; Tune then starts them again, from their checkpoints."""

    def __init__(self, study: Study, on_change: OnChange, restarts: RestartPolicy, dog: Watchdog | None = None) -> None:
        self.study = study
        self.on_change = on_change
        self.restarts = restarts
        self.dog = dog or Watchdog()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.started(trial, time.monotonic())

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if "node" not in result:
            self.dog.reported(trial, time.monotonic())

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.ended(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.ended(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial, seconds in self.dog.stalled(time.monotonic()).items():
            self._end(trial, f"no epoch for {seconds:.0f} s")
            self.dog.ended(trial)

    def _end(self, trial: Any, reason: str) -> None:
        number = trial.config["number"]
        is_group = bool(trial.config["others"])  # one of its members may be to blame: they are tried alone
        if not is_group and not self.study.may_retry(number, "stalled", reason):
            self.study.on_error(number, "stalled", f"{reason}, for the second time")
        self.restarts.ours.add(number)
        self.on_change(number)
        ray.kill(trial.temporary_state.ray_actor)


def may_retry_with_more(study: Study, need: Resources, number: int, reason: str) -> bool:
    """Returns whether a trial that ran out of memory is tried again: once, where there is more to be had."""
    return current_nodes().more_resources(need) is not None and study.may_retry(number, "oom", reason)
