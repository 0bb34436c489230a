"""Work between two steps of Tune's loop."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from config import cli
from search.execution import tuner
from search.execution.ray_scheduler import RayScheduler
from search.messages import REPORT, TASK, Failure, WorkerTask
from search.space.schema import Resources
from search.storage.study import Study


def test_a_full_disk_ends_the_search_and_leaves_the_trial_to_the_next_start(open_study: Callable[..., Study]) -> None:
    study = open_study()
    scheduler = RayScheduler(study, Resources(), lambda number: None)
    steps = tuner.StepHook(lambda: None, scheduler, SimpleNamespace(requeue_dropped=lambda trials: None))  # type: ignore[arg-type]
    task = study.next_task()
    assert task is not None
    steps.on_step_end(0, [])
    failure = Failure("environment", "checkpoints/t0000: No space left on device")
    trial = SimpleNamespace(config={TASK: WorkerTask((task,))})
    assert scheduler.on_trial_result(None, trial, {REPORT: failure}) == "STOP"
    with pytest.raises(cli.CommandError, match="t0000: checkpoints/t0000: No space left") as raised:
        steps.on_step_end(1, [])
    assert raised.value.code == cli.ENVIRONMENT
    assert open_study().unfinished == [0]
