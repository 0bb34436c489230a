"""Decisions of the study on reports, as Ray Tune gets them."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import PlacementGroupFactory

from search.execution import fault_tolerance, ray_searcher, worker
from search.execution.cluster import Cluster, Node, Slots
from search.execution.ray_scheduler import RayScheduler
from search.execution.ray_searcher import RaySearcher
from search.messages import (
    REPORT,
    TASK,
    Failure,
    NodeInfo,
    NodeReport,
    NodeRequirements,
    Report,
    TrialTask,
    WorkerTask,
)
from search.space.schema import Resources
from search.storage.study import Study


def decide(scheduler: RayScheduler, config: dict[str, Any], report: Report) -> str:
    return scheduler.on_trial_result(None, SimpleNamespace(config=config), {REPORT: report})


def test_a_trial_out_of_memory_is_retried_once_with_twice_its_share_and_then_fails(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_node = Cluster((Node("a", "one", cpus=8, gpus=1),))
    for module in (ray_searcher, fault_tolerance):
        monkeypatch.setattr(module, "current_nodes", lambda: gpu_node)
    study, need = open_study(), Resources(cpu=1, gpu=0.25)
    searcher = RaySearcher(study, Slots(need, 4, 4, _next_poll=math.inf), lambda number: None)
    scheduler = RayScheduler(study, need, lambda number: None)
    for trial_id, gpu in (("a", 0.25), ("b", 0.5)):
        config = searcher.suggest(trial_id)
        assert isinstance(config, dict)
        assert (config[TASK].number, config[TASK].resources) == (0, Resources(cpu=1, gpu=gpu))
        assert decide(scheduler, config, Failure("oom", "CUDA out of memory")) == "STOP"
        searcher.on_trial_complete(trial_id)
    trial = study.trials[0]
    assert (trial.state, trial.failure_class) == ("failed", "oom")
    assert open_study().trials[0].retried == {"oom"}


def test_a_trial_on_an_unfit_node_is_requeued_for_other_nodes(open_study: Callable[..., Study]) -> None:
    study, need = open_study(), Resources()
    requirements = NodeRequirements((), ("bad",), "token", None)
    nodes: Any = SimpleNamespace(
        admits=lambda id, info: id == "good", requirements=lambda: requirements, gpu_memory_gib=None
    )
    searcher = RaySearcher(study, Slots(need, 1, 1, _next_poll=math.inf), lambda number: None, nodes=nodes)
    scheduler = RayScheduler(study, need, lambda number: None, nodes)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    info = NodeInfo({}, None, True)
    assert decide(scheduler, first, NodeReport("good", info)) == "CONTINUE"
    assert decide(scheduler, first, NodeReport("bad", info)) == "STOP"
    searcher.on_trial_complete("a")
    second = searcher.suggest("b")
    assert isinstance(second, dict)
    number = first[TASK].number
    assert (second[TASK].number, study.trials[number].state) == (number, "running")
    selector = [{"ray.io/node-id": "!in(bad)"}]
    assert worker.placement(second) == PlacementGroupFactory([{"CPU": 1, "GPU": 0}], bundle_label_selector=selector)


def test_a_trial_in_a_batch_is_stopped_by_its_number() -> None:
    stopped: list[Any] = []
    study: Any = SimpleNamespace(to_stop={3, 7})
    batch = WorkerTask((TrialTask(2, {}, "a"), TrialTask(3, {}, "b")))
    trials = [SimpleNamespace(config={TASK: batch}), SimpleNamespace(config={TASK: WorkerTask(batch.trials[:1])})]
    controller = SimpleNamespace(
        get_live_trials=lambda: trials, stop_trial=stopped.append, get_trials=list, search_alg=None
    )
    RayScheduler(study, Resources(), lambda number: None).choose_trial_to_run(controller)
    assert stopped == trials[:1]
    assert study.to_stop == {7}
