"""Operations and parameters of a model or of one of its parts at one size, from its shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from models import registry
from models.build import shape_model
from models.config import ModelConfig
from models.cost.counters import skip_elementwise
from models.cost.meter import Meter

SIZE: dict[str, Any] = {
    "img_size": 32, "in_channels": 3, "num_classes": 10, "patch_size": 4, "step": 4,
    "embed_dim": 384, "num_heads": 4, "depths": 4,
}  # fmt: skip
"""The size of the catalogue: images of 32 x 32 pixels, 8 x 8 tokens of width 384, 4 blocks, 4 steps."""
HOST = "spikformer_cifar"
"""The model in which parts are counted, with one block."""


@dataclass(frozen=True)
class Cost:
    """Costs of some layers of a model on one image."""

    operations: float
    """Operations of all steps with all inputs on: an upper bound, of which a layer's spike rate is the share."""
    parameters: int


def at_size(model: str, **keys: Any) -> ModelConfig:
    """Returns the config of a model at `SIZE`, with other values of some keys."""
    lacks = registry.MODELS[model].lacks
    size = {key: value for key, value in SIZE.items() if key not in lacks}
    return ModelConfig.model_validate({"model": model, **size, **keys})


def cost(config: ModelConfig, layers: tuple[str, ...] = ("",)) -> Cost:
    """Returns the cost of the layers whose names start with one of `layers`, by default of all."""
    operations, parameters = _by_layer(config)
    return Cost(
        sum(value for name, value in operations.items() if name.startswith(layers)),
        sum(value for name, value in parameters.items() if name.startswith(layers)),
    )


def cost_of_ssa() -> Cost:
    """Returns the cost of one SSA, the unit of the catalogue."""
    return cost(at_size(HOST, depths=1, attn_layer="SSA"), ("blocks.0.attn.",))


@lru_cache(maxsize=8)
def _by_layer(config: ModelConfig) -> tuple[dict[str, float], dict[str, int]]:
    """Returns the operations of each counted layer, and the size of each parameter."""
    model = shape_model(config).eval()
    parameters = {name: value.numel() for name, value in model.named_parameters()}
    skip_elementwise(model)
    image = (1, config.in_channels, config.img_size, config.img_size)
    with torch.device("meta"), torch.no_grad(), Meter(model) as meter:
        meter.forward_steps(torch.empty(image))
    operations = {name: layer.shape.dense * layer.until(config.step).runs for name, layer in meter.layers.items()}
    return operations, parameters
