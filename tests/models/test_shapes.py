"""Models without memory: the same parameters as those with values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models import ModelConfig, create_model
from models.build import shape_model


@pytest.mark.parametrize("model", ["spikformer_cifar", "qkformer_cifar", "sdt_cifar", "spikingresformer_cifar"])
def test_a_model_of_shapes_has_the_parameters_of_the_true_one(
    model: str, small_config: Callable[..., ModelConfig]
) -> None:
    config = small_config(model)
    found = shape_model(config)
    assert all(parameter.is_meta for parameter in found.parameters())
    expected = {name: parameter.shape for name, parameter in create_model(config).named_parameters()}
    assert {name: parameter.shape for name, parameter in found.named_parameters()} == expected
