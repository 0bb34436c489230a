"""Configs of every registered model at sizes that build and run in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import InfeasibleError, ModelConfig, create_model, registry
from models.parts.backbone import SpikingModel

SMALL = {"num_classes": 3, "img_size": 16, "step": 3, "read_step": 3}
SMALL_WIDTH = 16
MOST_BLOCKS = 1

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]


def shrink(name: str) -> dict[str, Any]:
    """Returns keys that make a model small: least width 16 or so, two heads, one block a stage."""
    keys = {"model": name, **registry.MODELS[name].keys, **SMALL}
    width, heads, depths = keys["embed_dim"], keys["num_heads"], keys["depths"]
    if isinstance(width, tuple | list):
        keys["embed_dim"] = [SMALL_WIDTH * (i + 1) for i in range(len(width))]
    else:
        keys["embed_dim"] = SMALL_WIDTH * 4 if name in STAGED else SMALL_WIDTH
    if name not in STAGED:
        keys["patch_size"] = 4
    keys["num_heads"] = [2] * len(heads) if isinstance(heads, tuple | list) else 2
    if isinstance(depths, tuple | list):
        keys["depths"] = [min(depth, MOST_BLOCKS) for depth in depths]
    elif name not in STAGED:
        keys["depths"] = MOST_BLOCKS
    return keys


STAGED = {name for name, preset in registry.MODELS.items() if preset.spread.stages > 1}


@pytest.fixture
def shrunk() -> Callable[[str], dict[str, Any]]:
    """The keys that make a registered model small."""
    return shrink


@pytest.fixture
def small_config() -> Config:
    """A registered model's config, small, with any keys changed."""
    return lambda model, **keys: ModelConfig.model_validate({**shrink(model), **keys})


@pytest.fixture
def small_model(small_config: Config) -> Build:
    """A registered model, small and seeded, with any keys changed."""

    def build(name: str, **keys: Any) -> SpikingModel:
        torch.manual_seed(0)
        try:
            return create_model(small_config(name, **keys))
        except InfeasibleError as error:
            if not keys:
                raise
            pytest.skip(str(error))

    return build


@pytest.fixture
def pixels() -> Callable[..., Tensor]:
    """Random input for a config: images, or a sequence of frames when `steps` is given."""

    def draw(config: ModelConfig, batch: int = 2, steps: int | None = None, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (config.in_channels, config.img_size, config.img_size)
        return torch.randn(batch, *((steps,) if steps else ()), *shape, generator=generator)

    return draw


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def firing(model: SpikingModel, x: Tensor) -> SpikingModel:
    """Sets the batch norms to the statistics of x, so that every layer has something to fire at; returns the model."""
    model.train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        torch.nn.init.uniform_(norm.weight, 0.8, 2.0)
        torch.nn.init.uniform_(norm.bias, 0.0, 0.8)
    with torch.no_grad():
        model.forward_steps(x)
    return model.eval()


@pytest.fixture(name="firing")
def _firing() -> Callable[[SpikingModel, Tensor], SpikingModel]:
    return firing
