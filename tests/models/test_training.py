"""Every family learns on digits: the loss falls, and spikes flow in every layer."""

from __future__ import annotations

from typing import Any

import pytest

from models import registry
from trainers.config import TrainConfig
from trainers.train import EpochMetrics, train

MODELS = sorted(registry.MODELS)
FIRST = sorted({name.split("_")[0]: name for name in reversed(MODELS)}.values())
DIGITS = {
    "dataset": "digits", "epochs": 2, "batch_size": 50, "val_batch_size": 300, "lr": 0.01, "smoothing": 0.0,
    "weight_decay": 0.0, "val_fraction": 0.5, "step": 2, "read_step": 2, "img_size": 16, "device": "cpu",
}  # fmt: skip
EASILY = {"threshold": 0.5, "attn_threshold": 0.2, "tim_threshold": 0.2}
"""Models this small fire too little at the published thresholds."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_a_family_learns_on_digits_with_spikes_in_every_layer(name: str, shrunk: Any) -> None:
    keys = {key: value for key, value in shrunk(name).items() if key not in ("num_classes", "img_size", "in_channels")}
    config = TrainConfig.model_validate({**keys, **DIGITS, **EASILY})
    epochs: list[EpochMetrics] = []
    train(config, epochs.append)
    assert epochs[-1].metrics["loss"] < epochs[0].metrics["loss"]
    assert [row["name"] for row in epochs[-1].layers if row.get("spikes") == 0.0] == []
