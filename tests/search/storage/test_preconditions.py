"""Conditions of a search: data, checkpoint store, and a study that may be finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config import cli
from config.cli import CommandError
from config.errors import ConfigError
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
