"""Tasks that the searcher hands to Ray Tune, and the slots that they use."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from search.execution import ray_searcher
from search.execution.cluster import Cluster, Node, Slots
from search.execution.ray_searcher import RaySearcher
from search.messages import TASK, TrialTask
from search.space.schema import Resources
from search.storage.study import Study
from trainers.config import TrainConfig
from trainers.epoch_metrics import EpochMetrics

IMAGES = {"dataset": "cifar10", "model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "epochs": 1}
EVENTS = {**IMAGES, "dataset": "cifar10_dvs", "patch_size": 4}
DIGITS = {**IMAGES, "dataset": "digits"}


@pytest.fixture
def searcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A searcher whose study suggests the configs in `configs`; `loaded` lists the data that is loaded."""
    loaded: list[dict[str, Any]] = []
    configs: list[dict[str, Any]] = []

    def load(keys: dict[str, Any], imports: list[str]) -> int:
        loaded.append(keys)
        return len(loaded)

    def next_task() -> TrialTask:
        return TrialTask(0, TrainConfig.model_validate(configs.pop(0)).dump(), "f")

    monkeypatch.setattr(ray_searcher, "load_shared", SimpleNamespace(remote=load))
    trials = {0: SimpleNamespace(state="complete", retried=set())}
    study: Any = SimpleNamespace(next_task=next_task, trials=trials, to_requeue=set())
    made = RaySearcher(study, Slots(Resources(), None, 8, _next_poll=math.inf), lambda number: None)
    made.configs, made.loaded = configs, loaded
    return made


def references(searcher: Any, *configs: dict[str, Any]) -> list[Any]:
    searcher.configs.extend(configs)
    return [searcher.suggest(f"id{i}")[TASK].data for i in range(len(configs))]


def test_trials_on_the_same_data_get_the_same_reference(searcher: Any) -> None:
    assert references(searcher, {**IMAGES, "lr": 0.1}, {**IMAGES, "lr": 0.2, "step": 1}) == [1, 1]
    assert len(searcher.loaded) == 1


def test_frames_of_other_lengths_are_other_data(searcher: Any) -> None:
    assert references(searcher, *({**EVENTS, "step": step} for step in (2, 4, 2))) == [1, 2, 1]


def test_streamed_images_are_not_shared(searcher: Any) -> None:
    streamed = {**IMAGES, "dataset": "imagefolder", "num_classes": 3, "img_size": 32}
    assert references(searcher, streamed) == [None]
    assert not searcher.loaded


def test_digits_are_loaded_by_each_trial_faster_than_a_process_starts(searcher: Any) -> None:
    assert references(searcher, DIGITS) == [None]


def test_no_trial_is_suggested_while_every_slot_is_taken(searcher: Any) -> None:
    searcher.slots = Slots(Resources(), None, 2, _next_poll=math.inf)
    searcher.configs.extend([DIGITS] * 3)
    assert [searcher.suggest(f"id{i}") is not None for i in range(3)] == [True, True, False]
    searcher.on_trial_complete("id0")
    assert searcher.suggest("id3") is not None


def test_a_trial_that_tune_dropped_without_a_call_is_requeued(searcher: Any) -> None:
    searcher.slots = Slots(Resources(), None, 1, _next_poll=math.inf)
    searcher.configs.append(DIGITS)
    searcher.suggest("id0")
    requeued: list[int] = []
    searcher.study.requeue, searcher.study.trials[0].state = requeued.append, "running"
    trials = [SimpleNamespace(trial_id="id0", status="ERROR"), SimpleNamespace(trial_id="id1", status="TERMINATED")]
    for _ in range(2):
        searcher.requeue_dropped(trials)
    assert requeued == [0]
    searcher.configs.append(DIGITS)
    assert searcher.suggest("id2") is not None, "its slot is free"


def test_a_trial_with_a_larger_share_uses_several_slots(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_searcher, "current_nodes", lambda: Cluster((Node("a", "one", cpus=2, gpus=0),)))
    searcher.slots = Slots(Resources(cpu=1), None, 2, _next_poll=math.inf)
    searcher.study.trials[0].retried.add("oom")
    searcher.configs.extend([DIGITS] * 2)
    assert searcher.suggest("a")[TASK].resources.cpu == 2
    assert searcher.suggest("b") is None


def test_a_trial_that_would_not_fit_its_gpu_share_gets_a_larger_one(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, need = open_study("sampler.name=random"), Resources(gpu=0.25)
    monkeypatch.setattr("search.execution.gpu_shares.gpu_memory_gib", lambda: 40.0)
    made: Any = RaySearcher(study, Slots(need, 4, 4, _next_poll=math.inf), lambda number: None)
    for number in range(3):
        assert made.suggest(f"small {number}")[TASK].resources.gpu == 0.25
        metrics = {"accuracy": 50.0, "spike_rate": 0.1, "chance": 10.0, "peak_mem_gib": 15.0}
        study.on_result(number, EpochMetrics(1, metrics, [], []))
        made.on_trial_complete(f"small {number}")
    assert made.suggest("large")[TASK].resources.gpu == 0.5
