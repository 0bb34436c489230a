"""Sources of initial configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from search.space import initial_configs


def test_a_recipe_is_one_config_and_a_folder_without_a_study_none(tmp_path: Path) -> None:
    ((name, config),) = initial_configs.resolve("spikformer/digits")
    assert (name, config["model"]) == ("spikformer/digits", "spikformer_cifar")
    assert not initial_configs.is_study(str(tmp_path))


def test_a_study_that_cannot_be_read_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database")
    assert initial_configs.is_study(str(tmp_path))
    with pytest.raises(ConfigError, match="study"):
        initial_configs.resolve(str(tmp_path))
