"""The adapters to Ray Tune: what a trial is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from search import tune
from trainers.config import TrainConfig

IMAGES = {"dataset": "cifar10", "model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "epochs": 1}
EVENTS = {**IMAGES, "dataset": "cifar10_dvs", "patch_size": 4}


@pytest.fixture
def searcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A searcher whose study hands out what the test puts into `tasks`, and that notes what is loaded."""
    loaded: list[dict[str, Any]] = []

    def load(keys: dict[str, Any], imports: list[str]) -> int:
        loaded.append(keys)
        return len(loaded)

    monkeypatch.setattr(tune, "load_shared", SimpleNamespace(remote=load))
    tasks: list[dict[str, Any]] = []

    def ask() -> Any:
        return SimpleNamespace(number=0, folder="f", config=TrainConfig.model_validate(tasks.pop(0)).dump())

    made = tune._Searcher(SimpleNamespace(ask=ask, records={}), lambda number: None, [])  # type: ignore[arg-type]
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
