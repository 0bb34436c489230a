"""Combinations of parts: feasible ones build, run and learn; others are refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import InfeasibleError, ModelConfig, create_model, registry
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Config = Callable[..., ModelConfig]

MODELS = sorted(registry.MODELS)
ATTENTIONS = sorted(registry.ATTENTIONS)
STEMS = sorted(registry.STEMS)
BOTH = [None, pytest.param("sew", marks=pytest.mark.slow), pytest.param("ms", marks=pytest.mark.slow)]
"""The family's residual, and in the slow tests both."""


def has_key(name: str, key: str) -> None:
    """Skips the test where the model lacks the key."""
    if key in registry.MODELS[name].lacks:
        pytest.skip(f"{name} has no {key}")


def without_gradient(model: SpikingModel, x: Tensor) -> list[str]:
    """Returns the parameters that a backward pass does not reach."""
    model(x).square().sum().backward()
    return [key for key, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("residual", BOTH)
@pytest.mark.parametrize("attn_layer", ATTENTIONS)
def test_every_attention_learns_in_every_family(
    any_wiring: str, attn_layer: str, residual: str | None, small_model: Build, pixels: Pixels
) -> None:
    has_key(any_wiring, "attn_layer")
    model = small_model(any_wiring, attn_layer=attn_layer, **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("residual", BOTH)
@pytest.mark.parametrize("embed_layer", STEMS)
def test_every_stem_learns_in_every_family(
    any_wiring: str, embed_layer: str, residual: str | None, small_model: Build, pixels: Pixels
) -> None:
    has_key(any_wiring, "embed_layer")
    model = small_model(any_wiring, embed_layer=embed_layer, **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("residual", BOTH)
@pytest.mark.parametrize("mlp_layer", sorted(registry.MLPS))
def test_every_mlp_learns_in_every_family(
    any_wiring: str, mlp_layer: str, residual: str | None, small_model: Build, pixels: Pixels
) -> None:
    has_key(any_wiring, "mlp_layer")
    model = small_model(any_wiring, mlp_layer=mlp_layer, **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("residual", BOTH)
def test_the_spatio_temporal_head_learns_in_every_family(
    any_wiring: str, residual: str | None, small_model: Build, pixels: Pixels
) -> None:
    has_key(any_wiring, "head_layer")
    model = small_model(any_wiring, head_layer="spatio_temporal", **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("node_type", sorted(registry.NEURONS))
def test_every_neuron_learns_in_every_family(
    any_wiring: str, node_type: str, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(any_wiring, node_type=node_type)
    assert without_gradient(model, pixels(model.config)) == []


choices = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "attn_layer": st.sampled_from(ATTENTIONS),
        "embed_layer": st.sampled_from(STEMS),
        "residual": st.sampled_from(["sew", "ms"]),
        "pos_layer": st.sampled_from(["rpe", "learned", "none"]),
        "node_type": st.sampled_from(sorted(registry.NEURONS)),
        "act_function": st.sampled_from(sorted(registry.SURROGATES)),
        "attn_scale": st.sampled_from([0.125, "learnable", "head_dim"]),
        "mlp_layer": st.sampled_from(sorted(registry.MLPS)),
        "head_layer": st.sampled_from(["mean", "spatio_temporal"]),
    },
    optional={
        "step": st.integers(1, 3),
        "img_size": st.sampled_from([8, 12, 16]),
        "patch_size": st.sampled_from([1, 2, 4, 8, 16]),
        "embed_dim": st.sampled_from([16, 20, 24, 64]),
        "num_heads": st.sampled_from([1, 2, 3, 4]),
    },
)


@settings(
    max_examples=75,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(keys=choices)
def test_any_combination_learns_or_is_refused_with_a_reason(
    keys: dict[str, Any], small_config: Config, pixels: Pixels
) -> None:
    assert outcome(keys, small_config, pixels)


@pytest.mark.slow
@settings(
    max_examples=3000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(keys=choices)
def test_thousands_of_combinations_learn_or_are_refused(
    keys: dict[str, Any], small_config: Config, pixels: Pixels
) -> None:
    assert outcome(keys, small_config, pixels)


def outcome(keys: dict[str, Any], small_config: Config, pixels: Pixels) -> str:
    """Returns "learns" or "refused: reason"; fails if a built model does not run."""
    keys = {"step": 3, **keys}
    config = small_config(**keys, read_step=keys["step"])
    torch.manual_seed(0)
    try:
        model = create_model(config)
    except InfeasibleError as error:
        why = str(error)
    else:
        assert without_gradient(model, pixels(config)) == []
        return "learns"
    assert "(got " in why
    return f"refused: {why}"
