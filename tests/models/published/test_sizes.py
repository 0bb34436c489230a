"""Sizes inferred from weights: those of the published listings, and of models of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import create_model, load_weights, save_published
from models.published.sizes import infer_sizes

LISTINGS = Path(__file__).parents[1] / "state_dicts"
NAMES = (
    *("spikformer_cifar10_4-256_h16", "spikformer_dvs128gesture_2-256", "spikingformer_imagenet_8-384"),
    *("sdt_cifar100_2-512", "tim_dvs_101c", "qkformer_dvs128gesture", "maxformer_imagenet_10_384"),
    *("sdtv2_extra_64_128_256_360", "sdtv2_metaspikformer_8_384_kd", "sdtv3_base_m", "spikingresformer_imagenet_s"),
    *("swformer_cifar100_4_384", "swformer_imagenet_6_512", "step_swformer_cifar10_4_384", "msvit_imagenet_10_512"),
)
"""A listing of each family, and of each way to give sizes."""
INFERRED = {"embed_dim", "depths", "num_classes", "kd_head", "variant", "wavelet_groups"}


def listing(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns a listing's train-file keys, and tensors without memory of the published names and shapes."""
    first, _, *rows = (LISTINGS / f"{name}.txt").read_text().splitlines()
    shapes: dict[str, tuple[int, ...]] = {}
    for row in rows:
        key, *kind, shape = row.split()
        if kind:
            shapes |= {f"{key}.{part}": (int(shape),) for part in ("weight", "bias", "running_mean", "running_var")}
        else:
            shapes[key] = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
    with torch.device("meta"):
        return json.loads(first[1:]), {key: torch.empty(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_the_inferred_sizes_takes_the_published_weights(name: str) -> None:
    keys, state = listing(name)
    others = {key: value for key, value in keys.items() if key not in INFERRED}
    with torch.device("meta"):
        model = create_model({**others, **infer_sizes(keys["model"], state)})
        assert load_weights(model, state) == []
    assert model.config.variant == keys.get("variant", "authors")


OURS: dict[str, dict[str, Any]] = {
    "one stage": {"model": "spikformer_cifar", "embed_dim": 48, "num_heads": 4, "depths": 3, "mlp_ratio": 2.0},
    "one channel": {"model": "sdt_cifar", "embed_dim": 32, "num_heads": 4, "depths": 1, "in_channels": 1},
    "lists": {"model": "qkformer_cifar", "embed_dim": [16, 32, 96], "num_heads": 4, "depths": [2, 1, 3]},
    "a stem's own depth": {"model": "metaspikformer", "embed_dim": [16, 32, 64, 96], "depths": [2, 1, 2, 3, 1]},
    "no transformer": {"model": "sew_resnet18", "depths": [1, 2, 1, 1], "num_classes": 7},
}


@pytest.mark.parametrize("keys", OURS.values(), ids=OURS)
def test_the_sizes_of_our_names_are_those_of_the_config(keys: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = create_model(keys)
    found = infer_sizes(keys["model"], model.state_dict())
    assert {key: found.get(key, value) for key, value in keys.items()} == keys
    assert found["num_classes"] == model.config.num_classes


def test_weights_of_another_family_have_no_sizes() -> None:
    with torch.device("meta"):
        other = create_model({"model": "spikingresformer_cifar"})
    assert infer_sizes("spikformer_cifar", save_published(other)) == {}


def test_published_and_our_names_give_the_same_sizes() -> None:
    keys, state = listing("sdt_cifar100_2-512")
    with torch.device("meta"):
        model = create_model(keys)
        load_weights(model, state)
    assert infer_sizes("sdt_cifar", state) == infer_sizes("sdt_cifar", model.state_dict())
