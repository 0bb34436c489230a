"""Every part with every other: what is feasible builds, runs and learns; what is not is refused in a sentence."""

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
from models.parts.blocks import Block

Build = Callable[..., SpikingModel]
Draw = Callable[..., Tensor]
Config = Callable[..., ModelConfig]

MODELS = sorted(registry.MODELS)
ATTENTIONS = sorted(registry.ATTENTIONS)
STEMS = sorted(registry.STEMS)
BOTH = [None, pytest.param("sew", marks=pytest.mark.slow), pytest.param("ms", marks=pytest.mark.slow)]
"""The family's own residual, and in the slow tests both."""

FIRST = {name.split("_")[0]: name for name in reversed(MODELS)}.values()
ZOO = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
"""Every model, those beyond one a family only in the slow tests."""


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
@pytest.mark.parametrize("name", ZOO)
def test_every_attention_learns_in_every_family_with_both_residuals(
    name: str, attn_layer: str, residual: str | None, small_model: Build, pixels: Draw
) -> None:
    has_key(name, "attn_layer")
    model = small_model(name, attn_layer=attn_layer, **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("residual", BOTH)
@pytest.mark.parametrize("embed_layer", STEMS)
@pytest.mark.parametrize("name", ZOO)
def test_every_stem_learns_in_every_family_with_both_residuals(
    name: str, embed_layer: str, residual: str | None, small_model: Build, pixels: Draw
) -> None:
    has_key(name, "embed_layer")
    model = small_model(name, embed_layer=embed_layer, **({"residual": residual} if residual else {}))
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("node_type", sorted(registry.NEURONS))
@pytest.mark.parametrize("name", ZOO)
def test_every_neuron_learns_in_every_family(name: str, node_type: str, small_model: Build, pixels: Draw) -> None:
    model = small_model(name, node_type=node_type)
    assert without_gradient(model, pixels(model.config)) == []


@pytest.mark.parametrize("name", ["sdt_cifar", "maxformer_cifar"])
def test_an_mlp_as_wide_as_the_model_has_a_shortcut_over_each_layer(
    name: str, small_model: Build, pixels: Draw
) -> None:
    block = next(module for module in small_model(name, mlp_ratio=1.0).modules() if isinstance(module, Block))
    x = torch.randn(2, 3, block.mlp.fc1.conv.in_channels, 4, 4)
    block.attn = torch.nn.Identity()
    block.mlp.fc1.neuron = block.mlp.fc2.neuron = torch.nn.Identity()  # nothing is kept from call to call
    block.eval()
    with torch.no_grad():
        first = 2 * x + block.mlp.fc1(2 * x)
        expected = first + block.mlp.fc2(first)
        torch.testing.assert_close(block(x), expected)


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
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(keys=choices)
def test_any_combination_learns_or_is_refused_in_a_sentence(
    keys: dict[str, Any], small_config: Config, pixels: Draw
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
    keys: dict[str, Any], small_config: Config, pixels: Draw
) -> None:
    assert outcome(keys, small_config, pixels)


def outcome(keys: dict[str, Any], small_config: Config, pixels: Draw) -> str:
    """Returns "learns" or "refused: why"; fails where a model that was built does not run."""
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
