"""Static cost of a config, and refusals by cause."""

from __future__ import annotations

import pytest
import torch

from config.errors import InfeasibleError
from models import create_model
from models.cost.meter import Meter, count_parameters
from search.space.feasibility import Refusals, parameters_m, static_cost
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


@pytest.mark.parametrize("node_type", ["LIFNode", "PLIFNode", "GLIFNode", "PSN", "NILIFNode"])
def test_parameters_are_those_of_the_model_at_any_step(node_type: str) -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "node_type": node_type}
    keys |= {"embed_dim": 16, "num_heads": 2, "depths": 1, "patch_size": 2, "img_size": 8, "in_channels": 1}
    for step in (1, 3, 4):
        config = TrainConfig.model_validate({**keys, "step": step, "tau": 1.5, "attn_scale": 0.2})
        assert parameters_m(config) == count_parameters(create_model(config)) / 1e6


def test_operations_are_those_of_all_steps() -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1}
    keys |= {"embed_dim": 16, "num_heads": 2, "depths": 1, "patch_size": 2, "img_size": 8, "in_channels": 1}
    one, two, four = (static_cost(TrainConfig.model_validate({**keys, "step": step})) for step in (1, 2, 4))
    assert four["operations"] - two["operations"] == pytest.approx(2 * (two["operations"] - one["operations"]))
    assert one["neurons"] == four["neurons"]


def test_refusals_are_counted_by_cause_without_the_values() -> None:
    refusals = Refusals()
    for width in (10, 20):
        refusals.add(InfeasibleError(f"num_heads must divide embed_dim (got embed_dim={width}, num_heads=3)"))
    assert str(refusals.error()) == (
        "space: all of 2 sampled configs were refused: num_heads must divide embed_dim (2x). Widen space or constraints"
    )
