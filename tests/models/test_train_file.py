"""Models from train files: the keys of the training are ignored, all others are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from config.errors import ConfigError, InfeasibleError
from models import ModelConfig, from_config
from models.train_file import KEYS
from results import train_file
from trainers import config as train_config
from trainers.config import RECIPES, TrainConfig

DIGITS = RECIPES / "spikformer" / "digits.yml"
KEYS_OF_DIGITS: dict[str, Any] = yaml.safe_load(DIGITS.read_text())


def model_keys(config: ModelConfig) -> dict[str, Any]:
    return {key: getattr(config, key) for key in ModelConfig.model_fields}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_model_of_a_recipe_is_that_of_its_training(path: Path) -> None:
    try:
        expected = train_config.load(path)
    except ConfigError as error:
        pytest.skip(f"cannot be trained: {error}")
    with torch.device("meta"):
        assert model_keys(from_config(path).config) == model_keys(expected)


def test_all_keys_of_a_train_file_are_known() -> None:
    assert TrainConfig.model_fields.keys() <= KEYS


@pytest.mark.parametrize("form", ["one file", "pair"])
def test_the_model_of_an_exported_file_is_that_of_the_trial(form: str, tmp_path: Path) -> None:
    config = train_config.load(DIGITS, overrides=["tau=1.5", "step=4", "read_step=3"])
    keys = {key: value for key, value in config.dump().items() if value is not None}
    part = keys if form == "one file" else train_file.split(keys)[0]
    (tmp_path / "digits.yml").write_text(train_file.render(part, ["exported"]))
    assert model_keys(from_config(tmp_path / "digits.yml").config) == model_keys(config)
    assert model_keys(from_config(str(tmp_path / "digits.yml"), tau=3.0).config) == {**model_keys(config), "tau": 3.0}


def test_a_mapping_and_a_config_give_the_model_too() -> None:
    config = train_config.load(DIGITS)
    assert from_config(KEYS_OF_DIGITS).config == from_config(config).config == from_config(DIGITS).config
    assert from_config(config.dump(), num_classes=7).config.num_classes == 7
    assert from_config(config, num_classes=7).config.num_classes == 7


def test_keys_that_only_the_benchmark_has_are_ignored() -> None:
    assert from_config({**KEYS_OF_DIGITS, "model-ema": True}).config == from_config(DIGITS).config


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_clases": 7}, "the arguments: num_clases: unknown key. Did you mean num_classes?"),
        ({"learning_rate": 7}, "the arguments: learning_rate: unknown key. Did you mean lr?"),
        ({"tau": 0.5}, "the arguments: tau: must be > 1.0 (got 0.5)"),
        ({"node_type": "LIF"}, "the arguments: node_type: unknown neuron (got 'LIF')."),
        ({"img_size": None}, "the arguments: img_size: must be a whole number (got nothing)"),
    ],
)
def test_a_wrong_key_is_reported_with_its_place_in_one_sentence(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_config(DIGITS, **changes)
    assert str(caught.value).startswith(text)
    with pytest.raises(ConfigError) as caught:
        from_config({**KEYS_OF_DIGITS, **changes})
    assert str(caught.value).startswith(text.removeprefix("the arguments: "))


def test_all_wrong_keys_of_a_file_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "my.yml"
    path.write_text("model: spikformer_cifar\ntau: 0.5\nlr: nonsense\nembed_dims: 64\ntau: 2.0\n")
    with pytest.raises(ConfigError) as caught:
        from_config(path)
    assert str(caught.value).splitlines() == [
        f"{path}:2: tau: must be > 1.0 (got 0.5)",
        f"{path}:4: embed_dims: unknown key. Did you mean embed_dim?",
        f"{path}:5: tau: duplicate key (first in line 2)",
    ]


def test_sizes_that_do_not_fit_are_reported_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yml"
    path.write_text("model: spikformer_cifar\nnum_heads: 5\n")
    with pytest.raises(InfeasibleError, match=rf"^{path}:2: num_heads: num_heads must divide embed_dim"):
        from_config(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.yml", "none.yml: no such file. Did you mean"),
        ("my.safetensors", "my.safetensors: holds weights; give the train file"),
        ("space.yml", "space.yml:1: space: is a space file, which is searched"),
        ("train.yml", "train.yml:1: model: missing; write for instance `model: spikformer_cifar`"),
    ],
)
def test_another_file_is_refused_with_the_remedy(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text("space: {tau: {uniform: [1.1, 4.0]}}\n")
    (tmp_path / "train.yml").write_text("lr: 0.1\n")
    (tmp_path / "one.yml").write_text("lr: 0.1\n")
    with pytest.raises(ConfigError) as caught:
        from_config(tmp_path / name)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(text)
