"""The registry: names without torch, paths that load, tables that agree."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from models import ModelConfig, registry

PATHS = [
    *(preset.path for preset in registry.MODELS.values()),
    *registry.STEMS.values(),
    *registry.ATTENTIONS.values(),
    *registry.NEURONS.values(),
    *registry.SURROGATES.values(),
]
NEURON_KEYS = frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"})


def run(code: str) -> str:
    """Returns what a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_names_sizes_and_feasibility_are_known_without_torch() -> None:
    code = """
import sys, models
models.check_feasible(models.ModelConfig(model="spikformer_cifar"))
print([name for name in ("torch", "spikingjelly", "timm") if name in sys.modules])
"""
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("imports", ["import models, timm", "import timm, models"])
def test_timm_knows_the_models_in_either_order_of_import(imports: str) -> None:
    code = f"{imports}\nprint(timm.is_model('spikformer_cifar'), timm.is_model('std_cifar'))"
    assert run(code).strip() == "True True"


def test_timm_knows_the_models_where_it_was_looked_for_before_it_was_imported() -> None:
    code = """
import models, importlib.util, pkgutil
assert importlib.util.find_spec("timm").origin.endswith("__init__.py")
import timm
print(timm.is_model("spikformer_cifar"), pkgutil.get_data("timm", "version.py") is not None)
"""
    assert run(code).strip() == "True True"


@pytest.mark.parametrize("path", PATHS)
def test_every_path_loads_a_builder(path: str) -> None:
    assert callable(registry.load(path))


def test_every_neuron_and_attention_says_which_keys_it_has() -> None:
    assert registry.NEURON_KEYS.keys() == registry.NEURONS.keys()
    assert registry.ATTENTION_KEYS.keys() == registry.ATTENTIONS.keys()
    fields = ModelConfig.model_fields.keys()
    assert all(keys <= NEURON_KEYS for keys in registry.NEURON_KEYS.values())
    assert all(keys <= fields for keys in registry.ATTENTION_KEYS.values())
    assert {*registry.NEURONS, "ILIFNode"} >= registry.ACAUSAL_NEURONS


@pytest.mark.parametrize("name", sorted(registry.MODELS))
def test_a_preset_holds_model_keys_only(name: str) -> None:
    preset: Any = registry.MODELS[name]
    assert preset.keys.keys() | preset.lacks <= ModelConfig.model_fields.keys()


@pytest.mark.parametrize(
    ("model", "attention", "node_type", "without", "needed"),
    [
        ("spikformer_cifar", "SSA", "IFNode", {"tau", "tim_alpha", "kd_head"}, {"attn_scale", "num_heads", "alpha"}),
        ("sdt_cifar", "SDSA", "LIFNode", {"attn_scale", "legacy_batch_leak"}, {"tau", "pooling_stat"}),
        ("qkformer_cifar", "QKTA", "ILIFNode", {"pooling_stat", "attn_scale", "alpha"}, {"legacy_batch_leak"}),
        ("sew_resnet18", "identity", "LIFNode", {"attn_layer", "embed_dim", "attn_threshold"}, {"depths", "tau"}),
    ],
)
def test_keys_without_effect_are_known_without_building(
    model: str, attention: str, node_type: str, without: set[str], needed: set[str]
) -> None:
    keys = registry.without_effect(model, [attention], node_type)
    assert without <= keys
    assert not needed & keys
