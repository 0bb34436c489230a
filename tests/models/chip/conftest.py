"""Small models whose layers all fire, lowered to graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from models import ModelConfig
from models.chip.graph import Graph
from models.chip.lowering import lower
from models.parts.backbone import SpikingModel


class Lowered(NamedTuple):
    """A model, its graph, and images for both."""

    model: SpikingModel
    graph: Graph
    images: Iterator[Tensor]


Lower = Callable[..., Lowered]


@pytest.fixture
def lowered(
    small_model: Callable[..., SpikingModel],
    pixels: Callable[..., Tensor],
    firing: Callable[[SpikingModel, Tensor], SpikingModel],
) -> Lower:
    """A small model by its name, lowered, with any keys changed; `events` gives it frames of counts."""

    def build(name: str, *, events: bool = False, images: int = 2, **keys: Any) -> Lowered:
        model = small_model(name, **keys)
        x = frames_of_counts(model.config, images) if events else pixels(model.config, images)
        x = x.sigmoid() if model.config.encoding != "direct" else x
        firing(model, x)
        return Lowered(model, lower(model, x[0]), iter(x))

    return build


def frames_of_counts(config: ModelConfig, images: int) -> Tensor:
    """Returns random event frames, [B, T, C, H, W], of 0 to 3 events per pixel."""
    generator = torch.Generator().manual_seed(1)
    shape = (images, config.step, config.in_channels, config.img_size, config.img_size)
    return torch.randint(0, 4, shape, generator=generator).float()
