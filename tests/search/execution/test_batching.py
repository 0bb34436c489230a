from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.errors import ConfigError
from search.execution import batching, tuner, worker
from search.execution.batching import TrialBatches
from search.execution.cluster import Slots
from search.messages import TrialTask
from search.space.schema import Resources
from search.space.space import Space
from search.storage.study import Study
from trainers.config import TrainConfig
from trainers.fused import training

ReadSpace = Callable[..., Space]
KEYS = {"dataset": "digits", "model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "epochs": 4}


class Asked:
    """A study whose next trials have these keys, all running."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.trials: dict[int, Any] = {}

    def next_task(self) -> TrialTask | None:
        if not self.keys:
            return None
        number = len(self.trials)
        self.trials[number] = SimpleNamespace(state="running", epoch=0)
        return TrialTask(number, TrainConfig.model_validate({**KEYS, **self.keys.pop(0)}).dump(), f"t{number}")


def numbers(group: list[TrialTask]) -> list[int]:
    return [task.number for task in group]


def grouped(study: Asked, size: int) -> TrialBatches:
    return TrialBatches(study, size)  # type: ignore[arg-type]


def test_trials_of_one_shape_train_together_and_others_wait_for_their_like() -> None:
    made = grouped(Asked({"step": 1}, {"step": 2}, {"step": 1, "tau": 3.0}, {"step": 2}, {"step": 1}), 3)
    assert [numbers(made.next()) for _ in range(3)] == [[0, 2, 4], [1, 3], []]


def test_train_files_of_one_shape_are_put_together_and_spread_over_all_slots() -> None:
    configs = [TrainConfig.model_validate({**KEYS, "step": step}).dump() for step in (1, 2, 1, 1, 2, 1)]
    assert batching.batch_positions(configs, 8, 2) == [[0, 2, 3], [5], [1, 4]]
    assert batching.batch_positions(configs, 2, 1) == [[0, 2], [3, 5], [1, 4]]
    assert batching.batch_positions(configs, 1, 2) == [[i] for i in range(6)]


def test_it_asks_ahead_for_one_group_at_most() -> None:
    study = Asked(*({"step": 1 + number} for number in range(10)))
    made = grouped(study, 2)
    assert numbers(made.next()) == [0]
    assert len(study.trials) == 3


def test_without_fuse_each_trial_is_asked_for_when_it_starts() -> None:
    study = Asked({}, {})
    assert numbers(grouped(study, 1).next()) == [0]
    assert len(study.trials) == 1


def test_what_cannot_fuse_trains_alone() -> None:
    made = grouped(Asked({"node_type": "PSN"}, {"node_type": "PSN"}), 4)
    assert [numbers(made.next()) for _ in range(2)] == [[0], [1]]


def test_members_that_go_on_join_the_next_group_before_new_trials() -> None:
    study = Asked({}, {}, {}, {}, {})
    made = grouped(study, 3)
    group = made.next()
    for number in range(3):
        study.trials[number].epoch = 1
    study.trials[1].state = "stopped"
    made.requeue(group)
    assert numbers(made.next()) == [0, 2, 3]


def test_a_member_that_did_not_get_on_in_its_group_trains_alone() -> None:
    study = Asked({}, {}, {})
    made = grouped(study, 2)
    made.requeue(made.next())
    assert [numbers(made.next()) for _ in range(3)] == [[0], [1], [2]]


def test_a_trial_that_was_stopped_while_it_waited_is_not_started() -> None:
    study = Asked({"step": 1}, {"step": 2}, {"step": 1}, {"step": 2})
    made = grouped(study, 2)
    assert numbers(made.next()) == [0, 2]
    study.trials[1].state = "stopped"
    assert numbers(made.next()) == [3]


def test_a_number_that_no_trial_can_follow_is_refused_with_the_reason(read_space: ReadSpace) -> None:
    with pytest.raises(ConfigError, match=r"fuse: no trial of this space.*opt=sgd"):
        batching.max_batch_size(read_space("fuse=4", "fixed.opt=sgd"))
    assert batching.max_batch_size(read_space("fuse=4")) == 4
    assert batching.max_batch_size(read_space()) == 1


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (("fixed.opt=sgd",), "sgd"),
        (("space.depths.int=[1, 4]",), "8 shapes"),
        (("fixed.batch_size=1024",), "too large"),
        (("resources.gpu=1",), "GPU"),
    ],
)
def test_auto_says_why_it_trains_each_trial_alone(overrides: tuple[str, ...], word: str, read_space: ReadSpace) -> None:
    space = read_space("fuse=auto", *overrides)
    assert batching.max_batch_size(space) == 1
    assert word in batching.description(space)


def test_auto_fuses_small_steps_of_few_shapes(read_space: ReadSpace) -> None:
    space = read_space("fuse=auto")
    assert batching.max_batch_size(space) == batching.AUTO_SIZE
    assert batching.description(space) == "fuse: up to 8 trials of one shape train as one"


def test_keys_that_options_open_count_as_shapes_where_they_must_be_equal(read_space: ReadSpace) -> None:
    text = "{choice: {SSA: {attn_scale: {uniform: [0.1, 0.2]}}, SDSA: {mlp_ratio: {choice: [1, 2, 4]}}}}"
    assert batching.shapes(read_space(f"space.attn_layer={text}").keys) == 2 * (1 + 3)


class _Ended(BaseException):
    """What ends a training's function where Tune says stop."""


def run_without_ray(study: Study, size: int, monkeypatch: pytest.MonkeyPatch, slots: int = 1) -> list[list[int]]:
    """Runs a study to its end in this process, group after group, and returns the groups."""
    searcher = tuner.RaySearcher(study, Slots(Resources(), None, slots, _due=math.inf), lambda number: None, [], size)
    scheduler = tuner.RayScheduler(study, Resources(), lambda number: None)
    handed: list[list[int]] = []
    while isinstance(task := searcher.suggest(f"id{len(handed)}"), dict):
        handed.append([task["number"], *(other["number"] for other in task["others"])])
        ran = SimpleNamespace(config=task)

        def report(result: dict[str, Any], ran: Any = ran) -> None:
            if scheduler.on_trial_result(None, ran, result) != "CONTINUE":
                raise _Ended

        monkeypatch.setattr(worker.tune, "report", report)
        with contextlib.suppress(_Ended):
            worker.run_trial(task)
        searcher.on_trial_complete(f"id{len(handed) - 1}")
    return handed


SMALL = ("fixed.batch_size=64", "fixed.threshold=0.6", "scheduler.reduction_factor=2")
QUICK = (*SMALL, "fixed.val_fraction=0.8", "scheduler.name=none", "space.step.choice=[1]", "budget.epochs=1")


def test_a_search_in_groups_decides_on_each_member_and_ends_as_any_other(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(*SMALL, "fixed.val_fraction=0.6", "budget.epochs=3", "budget.trials=4")
    handed = run_without_ray(study, 3, monkeypatch)
    assert max(map(len, handed)) > 1
    assert study.is_finished()
    assert sorted(study.trials) == list(range(4))
    assert {record.failure_class for record in study.trials.values()} <= {None, "at_chance"}
    for record in study.trials.values():
        assert record.state in ("complete", "stopped", "failed")
        assert sorted(record.epochs) == list(range(1, record.epoch + 1))
        assert record.epoch in ((3,) if record.state == "complete" else (1, 2, 3))


def test_a_member_with_an_error_of_its_own_fails_and_the_others_go_on(
    open_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "t0001").write_text("where a folder should be")
    study = open_study(*QUICK, "budget.trials=3")
    assert run_without_ray(study, 3, monkeypatch)[0] == [0, 1, 2]
    assert study.trials[1].failure_class == "error"
    assert [study.trials[number].epoch for number in (0, 2)] == [1, 1]


def test_a_group_that_breaks_down_is_tried_one_by_one(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "train_group", breaks)
    study = open_study(*QUICK, "budget.trials=2")
    assert run_without_ray(study, 2, monkeypatch) == [[0, 1], [0], [1]]
    assert [record.epoch for record in study.trials.values()] == [1, 1]


def test_an_interrupted_search_takes_its_members_up_in_groups(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(*QUICK, "budget.trials=3")
    assert numbers(TrialBatches(study, 3).next()) == [0, 1, 2]
    study.close()
    again = open_study(*QUICK, "budget.trials=3")
    assert run_without_ray(again, 3, monkeypatch) == [[0, 1, 2]]
    assert [record.epoch for record in again.trials.values()] == [1, 1, 1]
