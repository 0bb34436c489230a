"""The forecast of the time holds for every kind of data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import create_model
from models.cost.meter import Meter
from search.dry_run import NUM_SAMPLES, parallel_trials, sample_space, seconds_per_image
from search.space.feasibility import static_cost
from search.space.schema import Resources
from search.space.space import Space
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


def test_constraints_are_held_against_every_draw(read_space: Callable[..., Space]) -> None:
    keys = ("fixed={distort: false, depths: 1}", "space={embed_dim: {choice: [8, 16, 32, 64]}}")
    space = read_space(*keys, "constraints={params_m: {max: 0.005}}")
    fits = [static_cost(space.train_config({"embed_dim": width}))["params_m"] <= 0.005 for width in (8, 16, 32, 64)]
    assert 0 < sum(fits) < 4
    found = sample_space(space)
    assert found.refused.total() / NUM_SAMPLES == pytest.approx(1 - sum(fits) / 4, abs=0.1)


@pytest.mark.parametrize("attention", ["SSA", "SDSA_v2", "SDSA_v3"])
@pytest.mark.parametrize("read_step", [1, 4])
def test_the_macs_known_beforehand_are_those_that_are_measured(attention: str, read_step: int) -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "step": 4, "read_step": read_step}
    keys |= {"embed_dim": 16, "num_heads": 2, "depths": 1, "patch_size": 2, "img_size": 8, "in_channels": 1}
    config = TrainConfig.model_validate({**keys, "attn_layer": attention})
    model = create_model(config).eval()
    with torch.no_grad(), Meter(model) as meter:
        meter.forward_steps(torch.rand(3, 1, 8, 8))
    assert static_cost(config)["macs"] == meter.totals(read_step)["macs"]


@pytest.mark.parametrize(
    ("cpu", "gpu", "trials"),
    [(1, 0, 8), (2, 0, 4), (16, 0, 1), (0.5, 0, 16), (1, 1, 2), (1, 2, 1), (1, 0.25, 2), (5, 1, 1)],
)
def test_the_time_counts_the_trials_that_this_machine_has_room_for(
    cpu: float, gpu: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert parallel_trials(Resources(cpu=cpu, gpu=gpu)) == trials
