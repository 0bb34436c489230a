"""Static cost of a config, and refusals by cause."""

from __future__ import annotations

import pytest
import torch

from config.errors import InfeasibleError
from models import create_model
from models.cost.meter import Meter
from search.space.feasibility import Refusals, static_cost
from trainers.config import TrainConfig


@pytest.mark.parametrize("attention", ["SSA", "SDSA_v2", "SDSA_v3"])
@pytest.mark.parametrize("read_step", [1, 4])
def test_static_macs_equal_measured_macs(attention: str, read_step: int) -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "step": 4, "read_step": read_step}
    keys |= {"embed_dim": 16, "num_heads": 2, "depths": 1, "patch_size": 2, "img_size": 8, "in_channels": 1}
    config = TrainConfig.model_validate({**keys, "attn_layer": attention})
    model = create_model(config).eval()
    with torch.no_grad(), Meter(model) as meter:
        meter.forward_steps(torch.rand(3, 1, 8, 8))
    assert static_cost(config)["macs"] == meter.totals(read_step)["macs"]


def test_refusals_are_counted_by_cause_without_the_values() -> None:
    refusals = Refusals()
    for width in (10, 20):
        refusals.add(InfeasibleError(f"num_heads must divide embed_dim (got embed_dim={width}, num_heads=3)"))
    assert str(refusals.error()) == (
        "space: all of 2 sampled configs were refused: num_heads must divide embed_dim (2x). Widen space or constraints"
    )
