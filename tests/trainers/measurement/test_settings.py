"""Train files of weights: the given one, the one beside them, or a recipe with their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from config.errors import ConfigError
from models import ModelConfig, create_model, save_published
from models.train_file import file_beside
from trainers.config import load, recipe_path
from trainers.measurement.settings import from_file, from_weights


def published(**keys: Any) -> dict[str, Tensor]:
    """Returns published weights without values."""
    with torch.device("meta"):
        model = create_model(keys)
        return {key: torch.empty(value.shape) for key, value in save_published(model).items()}


def test_published_sizes_give_the_recipe_that_has_them() -> None:
    state = published(model="spikformer_cifar", embed_dim=256, num_heads=8, num_classes=100)
    found = from_weights("spikformer_cifar", state, [])
    assert found.source.startswith(
        "recipe spikformer/cifar100_4-256 (heads, steps and neurons are its); of the weights"
    )
    assert (found.config.dataset, found.config.num_heads, found.config.num_classes) == ("cifar100", 8, 100)


@pytest.mark.parametrize(
    "name",
    ["spikingresformer/cifar10", "metaspikformer/imagenet_8-512", "espikeformer/imagenet_m", "qkformer/cifar100"],
)
def test_weights_of_a_recipe_give_the_recipe_in_whatever_way_it_writes_its_sizes(name: str) -> None:
    recipe = load(recipe_path(name))
    with torch.device("meta"):
        state = create_model(recipe).state_dict()
    found = from_weights(recipe.model, state, [])
    assert (found.config, found.source.split(" (")[0]) == (recipe, f"recipe {name}")


def test_a_family_that_reads_no_heads_takes_any_sizes() -> None:
    state = published(model="sdt_cifar", embed_dim=64, num_heads=8, depths=3)
    config = from_weights("sdt_cifar", state, []).config
    assert (config.embed_dim, config.depths, config.dataset) == (64, 3, "cifar10")


def test_the_version_and_the_groups_of_a_wavelet_mixer_are_those_of_the_weights() -> None:
    for keys in ({}, {"variant": "step"}, {"wavelet_groups": 16}):
        expected = ModelConfig.model_validate({"model": "swformer_cifar", "depths": 2, **keys})
        found = from_weights("swformer_cifar", published(model="swformer_cifar", depths=2, **keys), []).config
        names = ("variant", "attn_layer", "embed_layer", "wavelet_groups", "depths")
        assert [getattr(found, name) for name in names] == [getattr(expected, name) for name in names]


def test_set_wins_over_recipe_and_weights() -> None:
    state = published(model="spikformer_cifar", in_channels=1, embed_dim=64, num_heads=4, depths=2)
    overrides = ["dataset=mnist", "num_heads=4", "step=2", "tau=1.5"]
    found = from_weights("spikformer_cifar", state, overrides)
    config = found.config
    assert (config.dataset, config.img_size, config.step, config.tau) == ("mnist", 28, 2, 1.5)
    assert found.source.startswith("published values of spikformer_cifar")


def test_classes_that_no_recipe_has_ask_for_the_data_set() -> None:
    state = published(model="spikformer_cifar", num_classes=7)
    with pytest.raises(ConfigError, match=r"no recipe has 7 classes and 3 channels; name the data set with --set data"):
        from_weights("spikformer_cifar", state, ["num_heads=12"])


def test_the_train_file_of_a_run_and_of_an_export_is_beside_the_weights(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    assert file_beside(checkpoints / "best.pt") is None
    (tmp_path / "train.yml").touch()
    assert file_beside(checkpoints / "best.pt") == tmp_path / "train.yml"
    (checkpoints / "cifar10.yml").touch()
    assert file_beside(checkpoints / "cifar10.safetensors") == checkpoints / "cifar10.yml"


def test_a_train_file_of_another_model_than_the_named_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("dataset: digits\nmodel: spikformer_cifar\nepochs: 1\n")
    assert from_file(path, "spikformer_cifar", ["tau=1.5"]).config.tau == 1.5
    with pytest.raises(ConfigError, match=r"--model sdt_cifar: .*x\.yml is of spikformer_cifar"):
        from_file(path, "sdt_cifar", [])
