"""The report of a dry run: samples of the space, time and parallel trials."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search import dry_run
from search.dry_run import parallel_trials, sample_space, seconds_per_image
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


@pytest.mark.parametrize("fits", [128, 33, 1])
def test_a_step_on_a_gpu_is_timed_with_the_largest_batch_that_fits(monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    sizes: list[int] = []

    def train_step(learner: Any, images: torch.Tensor, labels: torch.Tensor, config: TrainConfig) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > fits:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return torch.zeros(())

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(dry_run.torch, "device", lambda name: SimpleNamespace(type=name))
    monkeypatch.setattr(dry_run, "make_learner", lambda config, device: SimpleNamespace(model=torch.nn.Linear(1, 1)))
    monkeypatch.setattr(dry_run.loop, "train_step", train_step)
    config = TrainConfig.model_validate({**TINY, "dataset": "cifar10", "model": "spikformer_cifar", "batch_size": 128})
    if fits == 1:
        with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
            seconds_per_image(config)
        return
    assert seconds_per_image(config) > 0
    steps = dry_run.GPU_WARM_UP + dry_run.GPU_STEPS
    assert sizes[-steps:] == [max(size for size in (128, 64, 32) if size <= fits)] * steps


def test_samples_are_checked_against_the_constraints(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "NUM_SAMPLES", 100)
    keys = ("fixed={distort: false, depths: 1}", "space={embed_dim: {choice: [8, 16, 32, 64]}}")
    space = read_space(*keys, "constraints={params_m: {max: 0.005}}")
    fits = [static_cost(space.train_config({"embed_dim": width}))["params_m"] <= 0.005 for width in (8, 16, 32, 64)]
    assert 0 < sum(fits) < 4
    found = sample_space(space)
    assert found.refused.total() / 100 == pytest.approx(1 - sum(fits) / 4, abs=0.1)


@pytest.mark.parametrize(
    ("cpu", "gpu", "trials"),
    [(1, 0, 8), (2, 0, 4), (16, 0, 1), (0.5, 0, 16), (1, 1, 2), (1, 2, 1), (1, 0.25, 2), (5, 1, 1)],
)
def test_the_forecast_counts_the_trials_that_fit_on_this_machine(
    cpu: float, gpu: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert parallel_trials(Resources(cpu=cpu, gpu=gpu)) == trials
