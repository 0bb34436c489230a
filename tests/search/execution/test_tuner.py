"""The adapters to Ray Tune: what a trial is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import PlacementGroupFactory

from config import cli
from search.execution import fault_tolerance, tuner
from search.execution import worker as trial
from search.execution.cluster import Cluster, Node, Slots
from search.space.schema import Resources
from search.storage.study import Study
from trainers.config import TrainConfig
from trainers.epoch_metrics import EpochMetrics

IMAGES = {"dataset": "cifar10", "model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "epochs": 1}
EVENTS = {**IMAGES, "dataset": "cifar10_dvs", "patch_size": 4}


@pytest.fixture
def searcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A searcher whose study hands out what the test puts into `tasks`, and that notes what is loaded."""
    loaded: list[dict[str, Any]] = []

    def load(keys: dict[str, Any], imports: list[str]) -> int:
        loaded.append(keys)
        return len(loaded)

    monkeypatch.setattr(tuner, "load_shared", SimpleNamespace(remote=load))
    tasks: list[dict[str, Any]] = []

    def ask() -> Any:
        return SimpleNamespace(
            number=0, folder="f", store_uri=None, config=TrainConfig.model_validate(tasks.pop(0)).dump()
        )

    study: Any = SimpleNamespace(
        next_task=ask, trials={0: SimpleNamespace(state="complete", retried=set())}, to_requeue=set()
    )
    made = tuner.RaySearcher(study, Slots(Resources(), None, 8, _due=math.inf), lambda number: None, [])
    made.tasks, made.loaded = tasks, loaded
    return made


def references(searcher: Any, *tasks: dict[str, Any]) -> list[Any]:
    searcher.tasks.extend(tasks)
    return [searcher.suggest(f"id{i}")["data"] for i in range(len(tasks))]


def test_trials_on_the_same_data_get_the_same_reference(searcher: Any) -> None:
    assert references(searcher, {**IMAGES, "lr": 0.1}, {**IMAGES, "lr": 0.2, "step": 1}) == [1, 1]
    assert len(searcher.loaded) == 1


def test_frames_of_other_lengths_are_other_data(searcher: Any) -> None:
    tasks = [{**EVENTS, "step": step} for step in (2, 4, 2)]
    assert references(searcher, *tasks) == [1, 2, 1]


def test_streamed_images_are_not_shared(searcher: Any) -> None:
    own = {**IMAGES, "dataset": "imagefolder", "num_classes": 3, "img_size": 32}
    assert references(searcher, own) == [None]
    assert not searcher.loaded


def test_digits_are_loaded_by_each_trial_faster_than_a_process_starts(searcher: Any) -> None:
    assert references(searcher, {**IMAGES, "dataset": "digits"}) == [None]


class Restarted:
    """What ends trials whose process died, with a study that notes which ones failed and a cluster that loses nodes."""

    def __init__(self) -> None:
        self.lost = 0
        self.failed: list[int] = []
        self.ended: set[int] = set()
        study: Any = SimpleNamespace(on_error=lambda number, *why: self.failed.append(number), to_end=self.ended)
        self.callback = fault_tolerance.RestartPolicy(study, lambda number: None, lambda: self.lost)
        self.trial = SimpleNamespace(config={"number": 7})
        self.start()

    def start(self) -> None:
        self.callback.on_trial_start(0, [], self.trial)

    def die(self) -> None:
        self.callback.on_trial_recover(0, [], self.trial)


def test_a_trial_whose_process_died_a_fourth_time_has_failed() -> None:
    restarted = Restarted()
    for _ in range(3):
        restarted.die()
        restarted.start()
    assert not restarted.failed
    restarted.die()
    assert (restarted.failed, restarted.ended) == ([7], {7})


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


def test_no_trial_is_asked_for_while_every_slot_is_taken(searcher: Any) -> None:
    searcher.slots = Slots(Resources(), None, 2, _due=math.inf)
    searcher.tasks.extend([{**IMAGES, "dataset": "digits"}] * 3)
    assert [searcher.suggest(f"id{i}") is not None for i in range(3)] == [True, True, False]
    searcher.on_trial_complete("id0")
    assert searcher.suggest("id3") is not None


def test_a_trial_that_tune_gave_up_without_a_word_is_handed_out_again(searcher: Any) -> None:
    searcher.slots = Slots(Resources(), None, 1, _due=math.inf)
    searcher.tasks.append({**IMAGES, "dataset": "digits"})
    searcher.suggest("id0")
    again: list[int] = []
    searcher.study.requeue, searcher.study.trials[0].state = again.append, "running"
    trials = [SimpleNamespace(trial_id="id0", status="ERROR"), SimpleNamespace(trial_id="id1", status="TERMINATED")]
    for _ in range(2):
        tuner.DroppedTrials(searcher).on_step_end(0, trials)
    assert again == [0]
    searcher.tasks.append({**IMAGES, "dataset": "digits"})
    assert searcher.suggest("id2") is not None, "its slot is free"


def test_a_trial_that_ran_out_of_memory_is_tried_once_more_with_twice_its_share_and_then_has_failed(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Cluster((Node("a", "one", cpus=8, gpus=1),))
    for module in (tuner, fault_tolerance):
        monkeypatch.setattr(module, "current_nodes", lambda: card)
    study, need = open_study(), Resources(cpu=1, gpu=0.25)
    made = tuner.RaySearcher(study, Slots(need, 4, 4, _due=math.inf), lambda number: None, [])
    scheduler = tuner.RayScheduler(study, need, lambda number: None)
    full = {"failure": "oom", "reason": "CUDA out of memory"}
    for trial_id, gpu in (("a", 0.25), ("b", 0.5)):
        task = made.suggest(trial_id)
        assert isinstance(task, dict)
        assert (task["number"], task["need"]) == (0, {"cpu": 1, "gpu": gpu})
        assert scheduler.on_trial_result(None, SimpleNamespace(config=task), full) == "STOP"
        made.on_trial_complete(trial_id)
    record = study.trials[0]
    assert (record.state, record.failure_class) == ("failed", "oom")
    assert open_study().trials[0].retried == {"oom"}


def test_a_trial_on_a_node_that_cannot_run_it_is_handed_out_again_and_kept_from_there(
    open_study: Callable[..., Study],
) -> None:
    study, need = open_study(), Resources()
    note = {"known": [], "unfit": ["bad"]}
    nodes: Any = SimpleNamespace(admits=lambda id, facts: id == "good", instructions=lambda: note, card_gib=None)
    made = tuner.RaySearcher(study, Slots(need, 1, 1, _due=math.inf), lambda number: None, [], nodes=nodes)
    scheduler = tuner.RayScheduler(study, need, lambda number: None, nodes)
    first = made.suggest("a")
    assert isinstance(first, dict)
    ran = SimpleNamespace(config=first)
    assert scheduler.on_trial_result(None, ran, {"node": "good", "facts": None}) == "CONTINUE"
    assert scheduler.on_trial_result(None, ran, {"node": "bad", "facts": None}) == "STOP"
    made.on_trial_complete("a")
    again = made.suggest("b")
    assert isinstance(again, dict)
    assert (again["number"], study.trials[first["number"]].state) == (first["number"], "running")
    elsewhere = [{"ray.io/node-id": "!in(bad)"}]
    places = PlacementGroupFactory([{"CPU": 1, "GPU": 0}], bundle_label_selector=elsewhere)
    assert trial.placement(again) == places


@pytest.fixture
def ended_by_ray(open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has Ray end the process of trial 0 for want of memory, as often as it is called."""
    for module in (tuner, fault_tolerance):
        monkeypatch.setattr(module, "current_nodes", lambda: Cluster((Node("a", "one", cpus=2, gpus=0),)))
    study, need = open_study(), Resources(cpu=1)
    made = tuner.RaySearcher(study, Slots(need, 2, 2, _due=math.inf), lambda number: None, [])
    restarts = fault_tolerance.RestartPolicy(study, lambda number: None, lambda: 0, need)

    def end() -> None:
        task: Any = made.suggest("a")
        with monkeypatch.context() as death:
            death.setattr(fault_tolerance.ActorManager, "wanted_memory", True)
            restarts.on_trial_recover(0, [], SimpleNamespace(config=task))
        assert study.to_end == {0}
        study.to_end.clear()
        made.on_trial_complete("a")  # the scheduler has had it ended

    return end


def test_a_trial_that_ray_ended_for_want_of_memory_ran_out_of_memory(
    ended_by_ray: Callable[[], None], open_study: Callable[..., Study]
) -> None:
    ended_by_ray()
    again = open_study()
    assert (again.trials[0].state, again.trials[0].retried) == ("running", {"oom"})
    ended_by_ray()
    failed = open_study().trials[0]
    assert (failed.state, failed.failure_class, failed.reason) == ("failed", "oom", fault_tolerance.OUT_OF_MEMORY)


def test_tune_is_told_of_a_process_that_ray_ended_for_want_of_memory_as_of_any_that_died() -> None:
    from ray.tune.execution import tune_controller

    told: list[tuple[type[Exception], str, bool]] = []

    def on_error(actor: Any, error: Exception) -> None:
        told.append((type(error), str(error), fault_tolerance.ActorManager.wanted_memory))

    actor = SimpleNamespace(actor_id=1, _on_error=on_error)
    made = tune_controller.RayActorManager(resource_manager=SimpleNamespace())
    made._cleanup_actor = lambda tracked_actor: None
    made._actor_task_failed(SimpleNamespace(_tracked_actor=actor, _on_error=on_error), OutOfMemoryError("low"))
    made._actor_start_failed(actor, OutOfMemoryError("low"))
    made._actor_start_failed(actor, RayActorError(error_msg="gone"))
    assert told == [(RayActorError, "low", True)] * 3 + [(RayActorError, "gone", False)]
    assert not fault_tolerance.ActorManager.wanted_memory


def test_a_full_disk_ends_the_search_and_leaves_the_trial_to_the_next_start(open_study: Callable[..., Study]) -> None:
    study = open_study()
    scheduler = tuner.RayScheduler(study, Resources(), lambda number: None)
    steps = tuner.StepHook(lambda: None, scheduler)
    task = study.next_task()
    assert task is not None
    steps.on_step_end(0, [])
    full = {"failure": "environment", "reason": "checkpoints/t0000: No space left on device"}
    trial = SimpleNamespace(config={"number": task.number, "others": []})
    assert scheduler.on_trial_result(None, trial, full) == "STOP"
    with pytest.raises(cli.CommandError, match="t0000: checkpoints/t0000: No space left") as raised:
        steps.on_step_end(1, [])
    assert raised.value.code == cli.ENVIRONMENT
    assert open_study().unfinished == [0]


def test_a_trial_with_a_bigger_share_takes_the_place_of_several(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "current_nodes", lambda: Cluster((Node("a", "one", cpus=2, gpus=0),)))
    searcher.slots = Slots(Resources(cpu=1), None, 2, _due=math.inf)
    searcher.study.trials[0].retried.add("oom")
    searcher.tasks.extend([{**IMAGES, "dataset": "digits"}] * 2)
    assert searcher.suggest("a")["need"]["cpu"] == 2
    assert searcher.suggest("b") is None


def test_a_trial_that_would_not_fit_its_share_of_a_card_gets_more(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, need = open_study("sampler.name=random"), Resources(gpu=0.25)
    monkeypatch.setattr("search.execution.gpu_shares.card_gib", lambda: 40.0)
    made = tuner.RaySearcher(study, Slots(need, 4, 4, _due=math.inf), lambda number: None, [])
    for number in range(3):
        assert made.suggest(f"small {number}")["need"]["gpu"] == 0.25  # type: ignore[index, call-overload]
        metrics = {"accuracy": 50.0, "spike_rate": 0.1, "chance": 10.0, "peak_mem_gib": 15.0}
        study.on_result(number, EpochMetrics(1, metrics, [], []))
        made.on_trial_complete(f"small {number}")
    assert made.suggest("large")["need"]["gpu"] == 0.5  # type: ignore[index, call-overload]


def test_what_the_next_decision_needs_is_learned_once_where_trials_end(
    open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study("scheduler={name: none}")
    begun: list[None] = []
    monkeypatch.setattr(study.scheduler, "prepare", lambda: begun.append(None))
    tasks = [study.next_task() for _ in range(3)]
    numbers = [task.number for task in tasks if task is not None]
    scheduler = tuner.RayScheduler(study, Resources(), lambda number: None)

    def told(done: int) -> int:
        outcomes: dict[int, Any] = {number: epoch(done, 50.0, 0.1) for number in numbers}
        scheduler.on_trial_result(None, SimpleNamespace(config={}), {"group": trial.GroupReport(outcomes)})
        return len(begun)

    assert [told(done) for done in range(1, 10)] == [0] * 8 + [1]
