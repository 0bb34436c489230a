"""Conditions of a search: data, checkpoint store, and a study that may be finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config import cli
from config.cli import CommandError
from config.errors import ConfigError
from search.space.schema import Resources
from search.storage import preconditions
from search.storage.study import Study


def test_embedded_data_and_the_folder_of_the_study_need_no_check(open_study: Callable[..., Study]) -> None:
    preconditions.check_data(open_study().space.example)
    preconditions.check_checkpoint_store(None)


def test_missing_data_is_an_error_of_the_environment(open_study: Callable[..., Study], tmp_path: Path) -> None:
    config = open_study().space.example.model_copy(update={"dataset": "cifar10", "data_dir": str(tmp_path)})
    with pytest.raises(CommandError, match="cifar-10-batches-py lacks") as raised:
        preconditions.check_data(config)
    assert raised.value.code == cli.ENVIRONMENT


def test_only_a_study_that_exists_is_finished(open_study: Callable[..., Study], tmp_path: Path) -> None:
    open_study(folder=tmp_path / "first")
    preconditions.check_started(tmp_path / "first")
    with pytest.raises(ConfigError, match=r"^--finish: .*/furst: no such study folder\. Did you mean first\? It needs"):
        preconditions.check_started(tmp_path / "furst")


@pytest.mark.parametrize(("has_driver", "num_gpus"), [(False, 1), (True, 0)])
def test_a_gpu_needs_a_driver_and_a_device(has_driver: bool, num_gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "has_driver", lambda: has_driver)
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
    preconditions.check_gpu(Resources(cpu=1, gpu=0))
    with pytest.raises(CommandError, match=r"a trial asks for 0\.5 GPU, and this machine has none") as raised:
        preconditions.check_gpu(Resources(cpu=1, gpu=0.5))
    assert raised.value.code == cli.ENVIRONMENT


def test_a_search_on_a_gpu_of_this_machine_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    preconditions.check_gpu(Resources(cpu=1, gpu=0.5))
