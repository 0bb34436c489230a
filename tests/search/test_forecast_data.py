"""The forecast of the time holds for every kind of data."""

from __future__ import annotations

from typing import Any

import pytest

from search.forecast import seconds_per_image
from trainers.config import TrainConfig

TINY = {"embed_dim": 16, "num_heads": 2, "depths": 1, "step": 2, "img_size": 16, "patch_size": 4, "epochs": 1}


@pytest.mark.parametrize(
    "keys",
    [
        {"dataset": "cifar10", "model": "spikformer_cifar", "img_size": 32},
        {"dataset": "cifar10_dvs", "model": "spikformer_dvs", "aa": "snn-wide", "mixup": 0.5},
        {"dataset": "imagefolder", "model": "spikformer_cifar", "num_classes": 3, "aa": "rand-m9-mstd0.5-inc1"},
        {
            "dataset": "cifar10_dvs",
            "model": "spikingresformer_cifar",
            "in_channels": 3,
            "embed_dim": [16, 16, 16],
            "num_heads": 1,
            "depths": [1, 1, 1],
        },
    ],
    ids=["memory", "events", "stream", "three channels of events"],
)
def test_a_step_can_be_timed_without_the_data(keys: dict[str, Any]) -> None:
    assert seconds_per_image(TrainConfig.model_validate({**TINY, **keys})) > 0
