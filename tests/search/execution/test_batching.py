"""Batches of trials that train as one model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.errors import ConfigError
from search.execution import batching, worker
from search.execution.batching import TrialBatches
from search.execution.cluster import Slots
from search.execution.ray_scheduler import RayScheduler
from search.execution.ray_searcher import RaySearcher
from search.messages import TASK, TrialTask
from search.space.schema import Resources
from search.space.space import Space
from search.storage.study import Study
from trainers.config import TrainConfig
from trainers.fused import training

ReadSpace = Callable[..., Space]
KEYS = {"dataset": "digits", "model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "epochs": 4}


class FakeStudy:
    """A study whose next trials have these keys, all running."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.trials: dict[int, Any] = {}
        self.space = SimpleNamespace(settings=SimpleNamespace(resources=Resources()))

    def next_task(self) -> TrialTask | None:
        if not self.keys:
            return None
        number = len(self.trials)
        self.trials[number] = SimpleNamespace(state="running", epoch=0)
        return TrialTask(number, TrainConfig.model_validate({**KEYS, **self.keys.pop(0)}).dump(), f"t{number}")


def numbers(batch: list[TrialTask]) -> list[int]:
    return [task.number for task in batch]


def batches_of(study: FakeStudy, size: int) -> TrialBatches:
    return TrialBatches(study, size)  # type: ignore[arg-type]


def test_trials_of_one_shape_train_together_and_others_are_queued() -> None:
    made = batches_of(FakeStudy({"step": 1}, {"step": 2}, {"step": 1, "tau": 3.0}, {"step": 2}, {"step": 1}), 3)
    assert [numbers(made.next()) for _ in range(3)] == [[0, 2, 4], [1, 3], []]


def test_configs_of_one_shape_are_combined_and_spread_over_all_slots() -> None:
    configs = [TrainConfig.model_validate({**KEYS, "step": step}).dump() for step in (1, 2, 1, 1, 2, 1)]
    assert batching.batch_positions(configs, 8, 2) == [[0, 2, 3], [5], [1, 4]]
    assert batching.batch_positions(configs, 2, 1) == [[0, 2], [3, 5], [1, 4]]
    assert batching.batch_positions(configs, 1, 2) == [[i] for i in range(6)]


def test_at_most_one_batch_is_suggested_in_advance() -> None:
    study = FakeStudy(*({"step": 1 + number} for number in range(10)))
    made = batches_of(study, 2)
    assert numbers(made.next()) == [0]
    assert len(study.trials) == 3


def test_without_fuse_each_trial_is_suggested_when_it_starts() -> None:
    study = FakeStudy({}, {})
    assert numbers(batches_of(study, 1).next()) == [0]
    assert len(study.trials) == 1


def test_trials_that_cannot_be_fused_train_alone() -> None:
    made = batches_of(FakeStudy({"node_type": "PSN"}, {"node_type": "PSN"}), 4)
    assert [numbers(made.next()) for _ in range(2)] == [[0], [1]]


def test_members_that_continue_join_the_next_batch_before_new_trials() -> None:
    study = FakeStudy({}, {}, {}, {}, {})
    made = batches_of(study, 3)
    batch = made.next()
    for number in range(3):
        study.trials[number].epoch = 1
    study.trials[1].state = "stopped"
    made.requeue(batch)
    assert numbers(made.next()) == [0, 2, 3]


def test_a_member_without_progress_in_its_batch_trains_alone() -> None:
    study = FakeStudy({}, {}, {})
    made = batches_of(study, 2)
    made.requeue(made.next())
    assert [numbers(made.next()) for _ in range(3)] == [[0], [1], [2]]


def test_a_trial_that_was_stopped_while_queued_is_not_started() -> None:
    study = FakeStudy({"step": 1}, {"step": 2}, {"step": 1}, {"step": 2})
    made = batches_of(study, 2)
    assert numbers(made.next()) == [0, 2]
    study.trials[1].state = "stopped"
    assert numbers(made.next()) == [3]


def test_a_batch_size_that_no_trial_allows_is_refused_with_the_reason(read_space: ReadSpace) -> None:
    with pytest.raises(ConfigError, match=r"fuse: no trial of this space.*opt must be adamw \(got sgd\)"):
        batching.max_batch_size(read_space("fuse=4", "fixed.opt=sgd"))
    assert batching.max_batch_size(read_space("fuse=4")) == 4
    assert batching.max_batch_size(read_space()) == 1
    with pytest.raises(ConfigError, match=r"quantised weights cannot be fused \(got quant_bits=4\)"):
        batching.max_batch_size(read_space("fuse=4", "fixed.quant_bits=4"))
    assert batching.max_batch_size(read_space("fuse=4", "space.quant_bits={choice: [4, none]}")) == 4


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (("fixed.opt=sgd",), "sgd"),
        (("space.depths.int=[1, 4]",), "8 shapes"),
        (("fixed.batch_size=1024",), "too large"),
        (("resources.gpu=1", "fixed.embed_dim=4096", "fixed.batch_size=1024"), "too large"),
    ],
)
def test_auto_gives_the_reason_for_training_each_trial_alone(
    overrides: tuple[str, ...], word: str, read_space: ReadSpace
) -> None:
    space = read_space("fuse=auto", *overrides)
    assert batching.max_batch_size(space) == 1
    assert word in batching.description(space)


def test_auto_fuses_small_steps_of_few_shapes(read_space: ReadSpace) -> None:
    space = read_space("fuse=auto")
    assert batching.max_batch_size(space) == batching.AUTO_SIZE
    assert batching.description(space) == "fuse: up to 8 trials of one shape train as one"


@pytest.mark.parametrize(("key", "size"), [("fixed.batch_size=1024", 8), ("fixed.compile=true", 8)])
def test_a_gpu_fuses_larger_steps_and_ignores_compile(read_space: ReadSpace, key: str, size: int) -> None:
    assert batching.max_batch_size(read_space("fuse=auto", key)) == 1
    space = read_space("fuse=auto", key, "resources.gpu=0.5")
    assert batching.max_batch_size(space) == size
    assert batching.shape_of(space.example.dump(), on_gpu=True) is not None


def test_keys_that_options_open_count_as_shapes_if_they_must_be_equal(read_space: ReadSpace) -> None:
    text = "{choice: {SSA: {attn_scale: {uniform: [0.1, 0.2]}}, SDSA: {mlp_ratio: {choice: [1, 2, 4]}}}}"
    assert batching.shapes(read_space(f"space.attn_layer={text}").keys) == 2 * (1 + 3)


class _StoppedError(BaseException):
    """Ends a training where Tune stops it."""


def run_without_ray(study: Study, size: int, monkeypatch: pytest.MonkeyPatch, slots: int = 1) -> list[list[int]]:
    """Runs a study to its end in this process, one batch after the other, and returns the batches."""
    free_slots = Slots(Resources(), None, slots, _next_poll=math.inf)
    searcher = RaySearcher(study, free_slots, lambda number: None, batch_size=size)
    scheduler = RayScheduler(study, Resources(), lambda number: None)
    batches: list[list[int]] = []
    while isinstance(config := searcher.suggest(f"id{len(batches)}"), dict):
        batches.append([task.number for task in config[TASK].trials])
        trial = SimpleNamespace(config=config)

        def report(result: dict[str, Any], trial: Any = trial) -> None:
            if scheduler.on_trial_result(None, trial, result) != "CONTINUE":
                raise _StoppedError

        monkeypatch.setattr(worker.tune, "report", report)
        with contextlib.suppress(_StoppedError):
            worker.run_trial(config)
        searcher.on_trial_complete(f"id{len(batches) - 1}")
    return batches


SMALL = ("fixed.batch_size=64", "fixed.threshold=0.6", "scheduler.reduction_factor=2")
QUICK = (*SMALL, "fixed.val_fraction=0.8", "scheduler.name=none", "space.step.choice=[1]", "budget.epochs=1")


def test_a_search_in_batches_decides_on_each_member_and_reaches_its_end(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(*SMALL, "fixed.val_fraction=0.6", "budget.epochs=3", "budget.trials=4")
    batches = run_without_ray(study, 3, monkeypatch)
    assert max(map(len, batches)) > 1
    assert study.is_finished()
    assert sorted(study.trials) == list(range(4))
    assert {trial.failure_class for trial in study.trials.values()} <= {None, "at_chance"}
    for trial in study.trials.values():
        assert trial.state in ("complete", "stopped", "failed")
        assert sorted(trial.epochs) == list(range(1, trial.epoch + 1))
        assert trial.epoch in ((3,) if trial.state == "complete" else (1, 2, 3))


def test_a_member_that_raises_fails_and_the_others_continue(
    open_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "t0001").write_text("where a folder should be")
    study = open_study(*QUICK, "budget.trials=3")
    assert run_without_ray(study, 3, monkeypatch)[0] == [0, 1, 2]
    assert study.trials[1].failure_class == "error"
    assert [study.trials[number].epoch for number in (0, 2)] == [1, 1]


def test_the_members_of_a_batch_that_fails_as_a_whole_are_retried_alone(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "train_fused", breaks)
    study = open_study(*QUICK, "budget.trials=2")
    assert run_without_ray(study, 2, monkeypatch) == [[0, 1], [0], [1]]
    assert [trial.epoch for trial in study.trials.values()] == [1, 1]


def test_an_interrupted_search_resumes_its_trials_in_batches(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(*QUICK, "budget.trials=3")
    assert numbers(TrialBatches(study, 3).next()) == [0, 1, 2]
    study.close()
    resumed = open_study(*QUICK, "budget.trials=3")
    assert run_without_ray(resumed, 3, monkeypatch) == [[0, 1, 2]]
    assert [trial.epoch for trial in resumed.trials.values()] == [1, 1, 1]
