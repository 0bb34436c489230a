"""Presets: model keys only, each feasible at its own sizes and at small ones, and stable under a dump."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
import yaml

from models import ModelConfig, check_feasible, registry


def test_a_preset_holds_model_keys_only(any_model: str) -> None:
    preset = registry.MODELS[any_model]
    assert preset.keys.keys() | preset.lacks <= ModelConfig.model_fields.keys()


def test_every_preset_is_feasible_and_reads_back_from_json_and_yaml(any_model: str) -> None:
    config = ModelConfig.model_validate({"model": any_model})
    check_feasible(config)
    assert ModelConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert ModelConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump()))) == config


def test_every_preset_is_feasible_at_small_sizes(any_model: str, small_config: Callable[..., ModelConfig]) -> None:
    check_feasible(small_config(any_model))


def test_the_values_of_a_version_follow_the_key_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    published = registry.MODELS["spikformer_cifar"]
    assert "variant" in published.lacks
    changed = dataclasses.replace(published, lacks=frozenset(), variants={"step": {"depths": 7}})
    monkeypatch.setitem(registry.MODELS, "spikformer_cifar", changed)
    assert "variant" not in changed.lacks
    assert ModelConfig.model_validate({"model": "spikformer_cifar"}).depths == 4
    assert ModelConfig.model_validate({"model": "spikformer_cifar", "variant": "step"}).depths == 7
    assert ModelConfig.model_validate({"model": "spikformer_cifar", "variant": "step", "depths": 2}).depths == 2
