"""Model keys of a train file: strict types, published values for missing keys, errors as sentences."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config import step_names
from models import ConfigError, ModelConfig, create_model, registry


@pytest.mark.parametrize(("key", "value"), [("embed_dim", "64"), ("depths", 2.0), ("tau", True), ("step", "4")])
def test_types_are_strict(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as error:
        ModelConfig.model_validate({"model": "spikformer_cifar", key: value})
    assert error.value.error_count() == 1
    assert error.value.errors()[0]["loc"][0] == key


@pytest.mark.parametrize(
    ("key", "typo", "nearest"),
    [
        ("model", "spikformer_cifr", "spikformer_cifar"),
        ("attn_layer", "SDAS", "SDSA"),
        ("embed_layer", "SPS_CLM", "SPS_CML"),
        ("node_type", "LIFnode", "LIFNode"),
        ("act_function", "sigmoit", "sigmoid"),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(key: str, typo: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"Known: .*Did you mean {nearest}"):
        create_model({"model": "spikformer_cifar", key: typo})


@pytest.mark.parametrize("alias", sorted(step_names.ALIASES))
def test_the_benchmarks_spellings_are_read_as_ours(alias: str) -> None:
    name = step_names.ALIASES[alias]
    tables = {
        "model": registry.MODELS,
        "attn_layer": registry.ATTENTIONS,
        "node_type": registry.NEURONS,
        "act_function": registry.SURROGATES,
        "embed_layer": registry.STEMS,
    }
    (key,) = (key for key, table in tables.items() if name in table)
    config = ModelConfig.model_validate({"model": "spikformer_cifar", key: alias})
    assert getattr(config, key) == name


def test_the_benchmarks_sps_in_a_file_of_sdt_means_the_sdt_stem() -> None:
    assert ModelConfig.model_validate({"model": "std_cifar", "embed_layer": "SPS"}).embed_layer == "MS_SPS"
    assert ModelConfig.model_validate({"model": "spikformer_cifar", "embed_layer": "SPS"}).embed_layer == "SPS"


def test_the_output_cannot_be_read_after_more_steps_than_there_are() -> None:
    with pytest.raises(ConfigError, match="read_step <= step must hold"):
        create_model({"model": "spikformer_cifar", "step": 2, "read_step": 3})


def test_a_list_of_one_value_equals_the_value() -> None:
    assert create_model({"model": "spikformer_cifar", "embed_dim": [16], "num_heads": 2, "depths": [1]})
