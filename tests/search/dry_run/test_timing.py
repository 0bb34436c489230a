"""Timed training steps, and the seconds per epoch of the configs of a space."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.dry_run import timing
from search.dry_run.sampling import SizedConfig
from search.dry_run.timing import seconds_per_image
from search.space.feasibility import static_cost
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


def test_a_step_on_the_cpu_is_timed_by_the_time_of_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.loop, "train_step", lambda *arguments: torch.zeros(()))
    monkeypatch.setattr(time, "thread_time", iter([3.0, 4.0]).__next__)
    learner: Any = SimpleNamespace(model=torch.nn.Linear(1, 1))
    config = TrainConfig.model_validate({**TINY, "dataset": "cifar10", "model": "spikformer_cifar", "batch_size": 2})
    assert timing._seconds_per_step(learner, config, 2, warm_up=0, steps=2) == 0.5


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
    monkeypatch.setattr(timing.torch, "device", lambda name: SimpleNamespace(type=name))
    monkeypatch.setattr(timing, "make_learner", lambda config, device: SimpleNamespace(model=torch.nn.Linear(1, 1)))
    monkeypatch.setattr(timing.loop, "train_step", train_step)
    config = TrainConfig.model_validate({**TINY, "dataset": "cifar10", "model": "spikformer_cifar", "batch_size": 128})
    if fits == 1:
        with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
            seconds_per_image(config)
        return
    assert seconds_per_image(config) > 0
    steps = timing.GPU_WARM_UP + timing.GPU_STEPS
    assert sizes[-steps:] == [max(size for size in (128, 64, 32) if size <= fits)] * steps


def sized(step: int, **keys: Any) -> SizedConfig:
    config = TrainConfig.model_validate(
        {**TINY, "dataset": "cifar10", "model": "spikformer_cifar", "step": step, **keys}
    )
    return SizedConfig(config, static_cost(config))


def test_configs_take_time_in_proportion_to_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds_per_image", lambda config: 0.001 * config.step)
    one, four = timing.seconds_per_epoch([sized(1), sized(4)])
    assert one == pytest.approx(0.001 * timing.images_per_epoch(sized(1).config))
    assert four == pytest.approx(4 * one)


def test_only_the_first_config_is_timed_if_a_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def slow(config: TrainConfig) -> float:
        timed.append(config.step)
        return 10.0

    monkeypatch.setattr(timing, "seconds_per_image", slow)
    found = timing.seconds_per_epoch([sized(step) for step in (1, 2, 4)])
    assert timed == [1]
    assert found[2] > 2 * found[0]


def test_an_epoch_counts_its_evaluation_in_part() -> None:
    config = sized(1, val_fraction=0.1, train_images=1000, batch_size=100).config
    assert timing.images_per_epoch(config) == pytest.approx(1000 + timing.EVALUATED * (5000 + 600))
