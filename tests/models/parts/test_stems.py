"""Stems: sizes, outputs, and layers computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ConfigError, InfeasibleError, ModelConfig, create_model, registry
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv
from models.parts.stages import stages

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
STEMS = ["SPS", "SPS_CML", "MS_SPS", "conv2_embed", "vit_embed"]


@pytest.mark.parametrize("embed_layer", STEMS)
@pytest.mark.parametrize(("img_size", "patch_size"), [(8, 1), (8, 2), (9, 4), (28, 4), (64, 8), (128, 16), (224, 16)])
def test_the_map_has_the_size_of_the_config(
    embed_layer: str, img_size: int, patch_size: int, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(
        "spikformer_cifar", embed_layer=embed_layer, img_size=img_size, patch_size=patch_size, embed_dim=8, step=2,
        read_step=2,
    )  # fmt: skip
    (stage,) = stages(model.config)
    with torch.no_grad():
        tokens = model.stem(pixels(model.config, batch=1)[None])
    assert tokens.shape == (2, 1, 8, stage.grid, stage.grid)


@pytest.mark.parametrize("pos_layer", ["rpe", "learned", "none"])
@pytest.mark.parametrize("embed_layer", sorted(registry.STEMS.keys() - {"sequential_embed"}))
@pytest.mark.parametrize("name", ["spikformer_cifar", "spikingformer_dvs"])
def test_blocks_that_add_spikes_get_spikes(
    name: str, embed_layer: str, pos_layer: str, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(name, embed_layer=embed_layer, pos_layer=pos_layer, residual="sew")
    with torch.no_grad():
        tokens = model.stem(pixels(model.config)[None])
    assert torch.equal(tokens, tokens.round())


@pytest.mark.parametrize("size", [16, 18])
def test_vit_embed_fires_on_the_currents_of_whole_patches(size: int, small_model: Build, pixels: Pixels) -> None:
    model = small_model("spikformer_cifar", embed_layer="vit_embed", pos_layer="none", img_size=size).eval().double()
    x, conv = pixels(model.config).double(), model.stem.conv
    assert isinstance(conv, Conv)
    patches = torch.nn.functional.unfold(torch.nn.functional.pad(x, (0, -size % 4, 0, -size % 4)), 4, stride=4)
    assert conv.bias is not None
    current = torch.einsum("dk,bkn->bdn", conv.weight.flatten(1), patches) + conv.bias[:, None]
    v, expected = torch.zeros_like(current), []
    for _ in range(model.config.step):
        v = v + (current - v) / model.config.tau
        expected.append((v >= model.config.threshold).double())
        v = v * (1.0 - expected[-1])
    assert torch.equal(model.stem(x[None]).flatten(3), torch.stack(expected))


def test_conv2_embed_has_two_convolutions_that_pool(small_model: Build) -> None:
    model = small_model("spikformer_cifar", embed_layer="conv2_embed", embed_dim=32)
    convs = [m for m in model.stem.modules() if isinstance(m, Conv)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(3, 8), (8, 32), (32, 32)]  # the last is RPE
    half = small_model("spikformer_cifar", embed_layer="conv2_embed", embed_dim=32, patch_size=2)
    assert [type(pool).__name__ for pool in half.stem.chain.pools] == ["Identity", "MaxPool"]


@pytest.mark.parametrize("keys", [{"patch_size": 8}, {"pooling_stat": "0100"}, {"embed_dim": 18}])
def test_what_conv2_embed_does_not_fit_is_refused(keys: dict[str, Any], small_config: Callable[..., Any]) -> None:
    with pytest.raises(InfeasibleError, match="conv2_embed"):
        create_model(small_config("spikformer_cifar", embed_layer="conv2_embed", **keys))


@pytest.mark.parametrize("pooling_stat", ["0000", "1000", "0101", "1111"])
def test_a_pooling_pattern_overrides_the_patch_size(pooling_stat: str, small_model: Build, pixels: Pixels) -> None:
    model = small_model("sdt_cifar", pooling_stat=pooling_stat)
    with torch.no_grad():
        tokens = model.stem(pixels(model.config)[None])
    assert tokens.shape[-1] == 16 // 2 ** pooling_stat.count("1")


def test_a_still_image_passes_the_first_convolution_once(any_model: str, small_model: Build, pixels: Pixels) -> None:
    model = small_model(any_model)
    first = next(module for module in model.modules() if isinstance(module, Conv) and module.fed == "input")
    steps: list[int] = []
    first.register_forward_hook(lambda module, inputs, out: steps.append(out.shape[0]))
    with torch.no_grad():
        model(pixels(model.config))
    assert steps == [1]


def test_learned_positions_refuse_other_sizes_and_name_both(
    small_model: Build, small_config: Callable[..., ModelConfig], pixels: Pixels
) -> None:
    model = small_model("spikformer_cifar", pos_layer="learned")
    with pytest.raises(ConfigError, match=r"\[4, 4\].*\[8, 8\]"):
        model(pixels(small_config("spikformer_cifar", img_size=32)))
