from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainers.config import TrainConfig
from trainers.fused.eligibility import obstacle, shape

Tiny = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"node_type": "PLIFNode"}, "PLIFNode"),
        ({"act_function": "erf"}, "erf"),
        ({"model": "spikingresformer_cifar", "embed_dim": 64, "depths": 1, "patch_size": 4}, "DSSA"),
        ({"attn_scale": "learnable"}, "learnable"),
        ({"mlp_drop": 0.1}, "dropout"),
        ({"opt": "sgd"}, "sgd"),
        ({"compile": True}, "compile"),
        ({"batch_size": 1}, "batch_size=1"),
    ],
)
def test_an_obstacle_to_fusing_is_explained(keys: dict[str, Any], word: str, tiny: Tiny) -> None:
    assert word in (obstacle(tiny(**keys)) or "")


def test_keys_that_members_share_determine_the_shape(tiny: Tiny) -> None:
    assert shape(tiny(tau=1.5, seed=1)) == shape(tiny(tau=3.0, seed=2))
    assert len({shape(tiny(**keys)) for keys in ({}, {"step": 1}, {"batch_size": 10}, {"hflip": 0.5})}) == 4
