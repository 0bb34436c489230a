"""The model keys of a train file: strict, dumpable, filled from the published values, refused in sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from config import step_names
from models import ConfigError, InfeasibleError, ModelConfig, check_feasible, create_model, registry

Config = Callable[..., ModelConfig]
MODELS = sorted(registry.MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_is_feasible_and_reads_back_from_json_and_yaml(name: str) -> None:
    config = ModelConfig.model_validate({"model": name})
    check_feasible(config)
    assert ModelConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert ModelConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump()))) == config


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_fits_its_own_stem_and_small_sizes(name: str, small_config: Config) -> None:
    check_feasible(small_config(name))


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


def test_the_benchmarks_sps_in_a_file_of_sdt_means_its_own_stem() -> None:
    assert ModelConfig.model_validate({"model": "std_cifar", "embed_layer": "SPS"}).embed_layer == "MS_SPS"
    assert ModelConfig.model_validate({"model": "spikformer_cifar", "embed_layer": "SPS"}).embed_layer == "SPS"


def test_the_output_cannot_be_read_after_more_steps_than_there_are() -> None:
    with pytest.raises(ConfigError, match="read_step <= step must hold"):
        create_model({"model": "spikformer_cifar", "step": 2, "read_step": 3})


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"embed_dim": 24, "num_heads": 5}, r"num_heads must divide embed_dim \(got embed_dim=24, num_heads=5\)"),
        ({"embed_dim": 20, "num_heads": 2}, r"must be a multiple of 8 \(got 20, embed_dim=20\)"),
        ({"img_size": 8, "patch_size": 16}, r"patch_size <= img_size must hold \(got patch_size=16, img_size=8\)"),
        ({"depths": 0}, r"at least one block \(got depths=0\)"),
        ({"depths": [1, 2]}, r"depths must be one value.*\(got \[1, 2\]\)"),
        ({"attn_layer": "TIM", "step": 1}, r"step >= 2 must hold \(got step=1\)"),
        ({"attn_layer": "TIM", "node_type": "PSN"}, r"TIM feeds its neurons step by step.*PSN"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_rule_and_the_values(keys: dict[str, Any], rule: str) -> None:
    with pytest.raises(InfeasibleError, match=rule):
        create_model({"model": "spikformer_cifar", **keys})


def test_a_list_of_one_is_its_value() -> None:
    assert create_model({"model": "spikformer_cifar", "embed_dim": [16], "num_heads": 2, "depths": [1]})
