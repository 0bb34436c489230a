"""Restarts of trials whose process died, for lack of memory or for any other reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

from search.execution import fault_tolerance, ray_searcher
from search.execution.cluster import Cluster, Node, Slots
from search.execution.fault_tolerance import RestartPolicy
from search.execution.ray_searcher import RaySearcher
from search.messages import REPORT, TASK, BatchProgress, TrialTask, WorkerTask
from search.space.schema import Resources
from search.storage.study import Study


class FakeTrial:
    """One of Tune's trials."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config


class Restarted:
    """One trial under a restart policy, with a fake study and a cluster that loses nodes."""

    def __init__(self) -> None:
        self.lost = 0
        self.failed: list[int] = []
        self.stopped: set[int] = set()
        study: Any = SimpleNamespace(on_error=lambda number, *reason: self.failed.append(number), to_stop=self.stopped)
        self.restarts = RestartPolicy(study, lambda number: None, lambda: self.lost)
        self.trial = FakeTrial({TASK: WorkerTask((TrialTask(7, {}, "f"),))})
        self.start()

    def start(self) -> None:
        self.restarts.on_trial_start(0, [], self.trial)

    def die(self) -> None:
        self.restarts.on_trial_recover(0, [], self.trial)


def test_a_trial_whose_process_died_a_fourth_time_has_failed() -> None:
    restarted = Restarted()
    for _ in range(3):
        restarted.die()
        restarted.start()
    assert not restarted.failed
    restarted.die()
    assert (restarted.failed, restarted.stopped) == ([7], {7})


def test_a_process_that_never_starts_ends_the_trial_too() -> None:
    restarted = Restarted()
    for _ in range(4):
        restarted.die()
    assert restarted.failed == [7]


@pytest.mark.parametrize("is_known_at_once", [True, False])
def test_a_lost_node_never_counts_as_a_trials_failure(is_known_at_once: bool) -> None:
    restarted = Restarted()
    for _ in range(10):
        restarted.lost += is_known_at_once
        restarted.die()
        restarted.lost += not is_known_at_once
        restarted.start()
    assert not restarted.failed
    for _ in range(4):
        restarted.die()
    assert restarted.failed == [7]


@pytest.fixture
def ended_by_ray(open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes Ray end the process of trial 0 for lack of memory, at each call."""
    for module in (ray_searcher, fault_tolerance):
        monkeypatch.setattr(module, "current_nodes", lambda: Cluster((Node("a", "one", cpus=2, gpus=0),)))
    study, need = open_study(), Resources(cpu=1)
    searcher = RaySearcher(study, Slots(need, 2, 2, _next_poll=math.inf), lambda number: None)
    restarts = RestartPolicy(study, lambda number: None, lambda: 0, need)

    def end() -> None:
        config: Any = searcher.suggest("a")
        with restarts.as_actor_error(OutOfMemoryError("low")):
            restarts.on_trial_recover(0, [], FakeTrial(config))
        assert study.to_stop == {0}
        study.to_stop.clear()
        searcher.on_trial_complete("a")  # as Tune does after the scheduler stopped it

    return end


def test_a_trial_that_ray_ended_for_lack_of_memory_ran_out_of_memory(
    ended_by_ray: Callable[[], None], open_study: Callable[..., Study]
) -> None:
    ended_by_ray()
    retried = open_study().trials[0]
    assert (retried.state, retried.retried) == ("running", {"oom"})
    ended_by_ray()
    failed = open_study().trials[0]
    assert (failed.state, failed.failure_class, failed.reason) == ("failed", "oom", fault_tolerance.OUT_OF_MEMORY)


def test_a_trial_that_a_user_stops_before_its_retry_is_not_requeued(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Cluster((Node("a", "one", cpus=2, gpus=0),))
    monkeypatch.setattr(fault_tolerance, "current_nodes", lambda: here)
    study, need = open_study(), Resources(cpu=1)
    searcher = RaySearcher(study, Slots(need, 2, 2, _next_poll=math.inf), lambda number: None)
    restarts = RestartPolicy(study, lambda number: None, lambda: 0, need)
    config: Any = searcher.suggest("a")
    with restarts.as_actor_error(OutOfMemoryError("low")):
        restarts.on_trial_recover(0, [], FakeTrial(config))
    study.stop(0, "stopped by the user")
    searcher.on_trial_complete("a")
    assert not study.is_requeued(0)


def test_tune_treats_a_process_ended_for_lack_of_memory_as_one_that_died() -> None:
    errors: list[tuple[type[Exception], str, bool]] = []
    study: Any = SimpleNamespace()
    restarts = RestartPolicy(study, lambda number: None, lambda: 0)

    def on_error(actor: Any, error: Exception) -> None:
        errors.append((type(error), str(error), restarts._out_of_memory))

    actor = SimpleNamespace(actor_id=1, _on_error=on_error)
    with fault_tolerance.recover_from_out_of_memory(restarts):
        manager = tune_controller.RayActorManager(resource_manager=SimpleNamespace())
    assert tune_controller.RayActorManager is RayActorManager
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(SimpleNamespace(_tracked_actor=actor, _on_error=on_error), OutOfMemoryError("low"))
    manager._actor_start_failed(actor, OutOfMemoryError("low"))
    manager._actor_start_failed(actor, RayActorError(error_msg="gone"))
    assert errors == [(RayActorError, "low", True)] * 3 + [(RayActorError, "gone", False)]
    assert not restarts._out_of_memory


def test_batches_within_an_epoch_do_not_count_as_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    restarted = Restarted()
    reported: list[Any] = []
    monkeypatch.setattr(restarted.restarts._watchdog, "report", lambda trial, now: reported.append(trial))
    restarted.restarts.on_trial_result(0, [], restarted.trial, {REPORT: BatchProgress(1, 50, 200)})
    assert reported == []
