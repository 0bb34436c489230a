"""Registry: names without torch, paths that load, consistent tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models import ModelConfig, registry

PATHS = [
    *(preset.path for preset in registry.MODELS.values()),
    *registry.STEMS.values(),
    *registry.ATTENTIONS.values(),
    *registry.MLPS.values(),
    *registry.NEURONS.values(),
    *registry.SURROGATES.values(),
]
NEURON_KEYS = frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"})


def test_names_sizes_and_feasibility_are_known_without_torch() -> None:
    code = """
import sys, models
models.check_feasible(models.ModelConfig(model="spikformer_cifar"))
print([name for name in ("torch", "spikingjelly", "timm") if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("path", PATHS)
def test_every_path_loads_a_builder(path: str) -> None:
    assert callable(registry.load(path))


def test_every_neuron_and_attention_lists_its_keys() -> None:
    assert registry.NEURON_KEYS.keys() == registry.NEURONS.keys()
    assert registry.ATTENTION_KEYS.keys() == registry.ATTENTIONS.keys()
    fields = ModelConfig.model_fields.keys()
    assert all(keys <= NEURON_KEYS for keys in registry.NEURON_KEYS.values())
    assert all(keys <= fields for keys in registry.ATTENTION_KEYS.values())
    assert {*registry.NEURONS, "ILIFNode"} >= registry.ACAUSAL_NEURONS


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
    attention_keys = frozenset().union(*registry.ATTENTION_KEYS.values())
    keys = registry.lacking(model, node_type) | (attention_keys - registry.ATTENTION_KEYS[attention])
    assert without <= keys
    assert not needed & keys
