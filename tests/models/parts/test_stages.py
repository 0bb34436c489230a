"""Sizes of stages, from the keys of a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ModelConfig, registry
from models.parts.backbone import SpikingModel
from models.parts.pyramid import Pyramid
from models.parts.stages import stages, stem_stage

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]

PYRAMIDS = sorted(
    name for name, preset in registry.MODELS.items() if preset.spread.stages > 1 and name != "sew_resnet18"
)


def config(model: str, **keys: Any) -> ModelConfig:
    return ModelConfig.model_validate({"model": model, **keys})


@pytest.mark.parametrize(
    ("model", "keys", "widths", "depths"),
    [
        ("qkformer_cifar", {"embed_dim": 256, "depths": 4}, [64, 128, 256], [1, 1, 2]),
        ("qkformer_imagenet", {"embed_dim": 512, "depths": 10}, [128, 256, 512], [1, 2, 7]),
        ("maxformer_dvs", {"embed_dim": 256, "depths": 3}, [128, 256], [1, 2]),
        ("spikingresformer_ti", {"embed_dim": 384, "depths": 6}, [64, 192, 384], [1, 2, 3]),
        ("metaspikformer", {"embed_dim": 512, "depths": 8}, [128, 256, 512, 640], [1, 2, 6, 2]),
        ("espikeformer_s", {}, [32, 64, 128, 192], [1, 2, 6, 2]),
        ("qkformer_cifar", {"embed_dim": [32, 48, 80], "depths": [0, 2, 1]}, [32, 48, 80], [0, 2, 1]),
    ],
)
def test_one_number_is_spread_as_published_and_a_list_is_used_unchanged(
    model: str, keys: dict[str, Any], widths: list[int], depths: list[int]
) -> None:
    sizes = stages(config(model, **keys))
    assert [stage.width for stage in sizes] == widths
    assert [stage.depth for stage in sizes] == depths


@pytest.mark.parametrize(
    ("model", "first", "patches"),
    [
        ("qkformer_cifar", [32, 16, 8], [4, 2, 1]),
        ("qkformer_imagenet", [56, 28, 14], [4, 2, 1]),
        ("qkformer_dvs", [16, 8], [2, 1]),
        ("spikingresformer_l", [56, 28, 14], [4, 2, 1]),
        ("metaspikformer", [56, 28, 14, 14], [4, 2, 1, 1]),
    ],
)
def test_maps_have_the_published_sizes(model: str, first: list[int], patches: list[int]) -> None:
    sizes = stages(config(model))
    assert [stage.grid for stage in sizes] == first
    assert [stage.shrink for stage in sizes] == patches


@pytest.mark.parametrize(("img_size", "patch_size"), [(8, 4), (17, 4), (28, 8), (33, 16)])
@pytest.mark.parametrize("embed_layer", sorted(registry.STEMS))
@pytest.mark.parametrize("model", ["qkformer_cifar", "maxformer_dvs", "spikingresformer_s", "metaspikformer"])
def test_every_stage_has_the_map_and_width_of_the_config(
    model: str, embed_layer: str, img_size: int, patch_size: int, small_model: Build, pixels: Pixels
) -> None:
    built = small_model(model, embed_layer=embed_layer, img_size=img_size, patch_size=patch_size, step=1, read_step=1)
    assert isinstance(built, Pyramid)
    shapes: list[tuple[int, int]] = []
    for embed in built.embeds:
        embed.register_forward_hook(lambda module, inputs, out: shapes.append((out.shape[2], out.shape[3])))
    with torch.no_grad():
        built(pixels(built.config, batch=1))
    sizes = list(stages(built.config))
    if len(shapes) > len(sizes):
        sizes.insert(0, stem_stage(built.config))
    assert shapes == [(stage.width, stage.grid) for stage in sizes]


def test_a_list_of_depths_may_start_with_the_half_wide_blocks() -> None:
    named, spread = (config("metaspikformer", depths=depths) for depths in ([1, 1, 2, 6, 2], 8))
    assert stages(named) == stages(spread)
    assert stem_stage(named) == stem_stage(spread)
    assert stem_stage(config("metaspikformer", depths=[3, 1, 2, 6, 2])).depth == 3


def test_convolutional_stages_have_no_attention() -> None:
    names = [stage.attn_layer for stage in stages(config("metaspikformer", attn_layer="SSA"))]
    assert names == ["identity", "identity", "SSA", "SSA"]
