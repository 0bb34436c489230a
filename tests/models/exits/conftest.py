"""Small models that spike in all layers, whose images exit at different steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from models import create_model
from models.config import ModelConfig
from models.exits.rules import exit_steps, read_outs, rule_of
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm

IMAGES = 8


class Case(NamedTuple):
    """A model in float64, a batch of images, thresholds of the rule `confidence`, and the steps that they give."""

    model: SpikingModel
    images: Tensor
    thresholds: list[float]
    steps: Tensor


@pytest.fixture
def exit_case(small_config: Callable[..., ModelConfig]) -> Callable[..., Case]:
    """Returns a case of a registered model, with any keys changed."""

    def build(name: str, **keys: Any) -> Case:
        torch.manual_seed(0)
        config = small_config(name, **{"step": 4, "read_step": 4, **keys})
        model = create_model(config).double().eval()
        for module in model.modules():
            if isinstance(module, BatchNorm):
                nn.init.constant_(module.weight, 4.0)
                nn.init.uniform_(module.bias, -0.5, 2.5)
        frames = (config.step,) if "dvs" in name else ()
        images = torch.randn(IMAGES, *frames, config.in_channels, config.img_size, config.img_size).double()
        with torch.no_grad():
            certainty = rule_of("confidence").certainty(read_outs(model.forward_steps(images)))
        thresholds = certainty[:-1].quantile(0.6, dim=1).tolist()
        return Case(model, images, thresholds, exit_steps(certainty, thresholds))

    return build
