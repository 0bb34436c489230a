"""The shipped recipes: they name their source, load, build, and hold the values of the published files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from config.errors import ConfigError
from models import ModelConfig, create_model
from trainers import config
from trainers.config import RECIPES, TrainConfig, load

SHIPPED = sorted(str(path.relative_to(RECIPES).with_suffix("")) for path in RECIPES.rglob("*.yml"))
TABLES = sorted(Path(__file__).parent.glob("published_recipes*.csv"))
"""The published files' values under their own keys, one column per recipe."""

RENAMED = {
    "time_step": "step", "time_steps": "step", "layer": "depths", "dim": "embed_dim", "TET_lamb": "tet",
    "FL_blocks": "wavelet_groups", "haar_vth": "attn_threshold",
}  # fmt: skip


def published() -> list[tuple[str, str, str]]:
    """Returns (recipe, key, value) of every cell of the table."""
    cells = []
    for table in TABLES:
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                key = row.pop("key")
                cells += [(recipe, key, value) for recipe, value in row.items() if value]
    return cells


def raw(recipe: str) -> dict[str, Any]:
    """Returns the keys of a recipe's file, with the model's published values for missing keys."""
    data: dict[str, Any] = yaml.safe_load((RECIPES / f"{recipe}.yml").read_text())
    model = {key: value for key, value in data.items() if key in ModelConfig.model_fields}
    return {**ModelConfig.model_validate(model).model_dump(), **data}


def same(ours: Any, theirs: str) -> bool:
    """Returns whether a value of ours equals the text of the table."""
    if isinstance(ours, bool):
        return theirs == str(ours)
    if isinstance(ours, int | float):
        return float(theirs) == float(ours)
    if isinstance(ours, list | tuple):
        return [float(part) for part in theirs.strip("[]").split(",")] == [float(part) for part in ours]
    return bool(theirs == ours)


@pytest.mark.parametrize("recipe", sorted({recipe for recipe, _, _ in published()}))
def test_a_recipe_holds_the_values_of_the_published_file(recipe: str) -> None:
    ours = raw(recipe)
    wrong = {}
    for name, key, value in published():
        if name != recipe:
            continue
        known = RENAMED.get(key, key)
        theirs = config.canonical({known: value})[known]
        if not same(ours[known], str(theirs)):
            wrong[key] = (ours[known], value)
    assert wrong == {}


@pytest.mark.parametrize("recipe", SHIPPED)
def test_a_recipe_names_the_source_of_its_values(recipe: str) -> None:
    comment = [line for line in (RECIPES / f"{recipe}.yml").read_text().splitlines() if line.startswith("#")]
    assert any("Source:" in line or "Values of this project" in line for line in comment)


@pytest.mark.parametrize("recipe", SHIPPED)
def test_a_recipe_loads_and_builds(recipe: str) -> None:
    config = load(RECIPES / f"{recipe}.yml")
    assert isinstance(config, TrainConfig)
    assert recipe.split("/")[0] == config.family
    with torch.device("meta"):
        create_model(config)


@pytest.mark.parametrize("recipe", SHIPPED)
def test_a_recipes_model_builds_whether_or_not_its_data_can_be_read(recipe: str) -> None:
    try:
        config = ModelConfig.model_validate(
            {key: value for key, value in raw(recipe).items() if key in ModelConfig.model_fields}
        )
        with torch.device("meta"):
            create_model(config)
    except ConfigError as error:
        pytest.fail(str(error))
