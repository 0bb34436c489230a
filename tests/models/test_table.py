"""Table of models: complete, and equal to the README's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models import ModelConfig, check_feasible, registry, table
from models.literature import published_sizes
from models.table import RELEASED, WRITTEN_OUT

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_the_readme_shows_the_current_table() -> None:
    readme = ROOT / "README.md"
    if not readme.exists() or "| model | paper | size |" not in readme.read_text():
        pytest.skip("the README has no table of models")
    assert table.markdown() in readme.read_text()


def test_every_model_has_a_row_with_its_paper() -> None:
    assert {size["model"] for size in published_sizes()} == registry.MODELS.keys()
    assert all(size["paper"] for size in published_sizes())


def test_every_published_accuracy_has_its_source_and_data_set() -> None:
    assert all(size["source"] and size["dataset"] for size in published_sizes() if size["accuracy"] is not None)


@pytest.mark.parametrize("name", sorted(registry.MODELS))
def test_a_published_size_is_feasible(name: str) -> None:
    for size in published_sizes():
        if size["model"] == name:
            check_feasible(ModelConfig.model_validate({"model": name, **size["keys"]}))


def test_a_model_is_listed_as_equal_only_if_a_test_checks_it() -> None:
    golden = set()
    for path in (HERE / "golden").glob("*.npz"):
        with np.load(path) as file:
            golden.add(json.loads(str(file["config"]))["model"])
    assert golden == RELEASED
    second = (HERE / "families" / "test_published_forward.py").read_text()
    assert all(f'"{name}"' in second for name in WRITTEN_OUT)
