"""The report of a dry run: samples of the space, time and parallel trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search import dry_run
from search.algorithm.scheduler import TrialScheduler
from search.dry_run import parallel_trials, sample_space, seconds_per_image
from search.space.feasibility import static_cost
from search.space.schema import Resources
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.epoch_metrics import EpochMetrics

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


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (["scheduler.name=none"], [12]),
        (["scheduler.mode=stop"], [12, 4, 4 / 3]),
        (["scheduler.mode=promote", "sampler.name=random"], [12, 12 * 3**-0.6, 12 * 3**-1.2]),
        (["scheduler.mode=promote", "budget.epochs=2"], [12, 12 * 3**-0.6 + (1 - 3**-0.6) * 4 / 3]),
    ],
)
def test_trials_expected_at_each_rung(read_space: Callable[..., Space], how: list[str], expected: list[float]) -> None:
    assert dry_run.expected_counts(read_space(*how), 12) == pytest.approx(expected)


@pytest.mark.parametrize("how", [["sampler.name=random"], [], ["scheduler.reduction_factor=2"], ["budget.epochs=27"]])
def test_the_expected_epochs_are_near_those_of_a_search(
    read_space: Callable[..., Space], epoch: Callable[..., EpochMetrics], how: list[str]
) -> None:
    space = read_space("scheduler.mode=promote", "budget.trials=40", *how)
    scheduler, full = TrialScheduler(space, space.feasible_config), space.budget.epochs

    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        noise = 3.0 * math.sin(1e4 * config["tau"] + number)
        accuracy = 90.0 - 50.0 * math.exp(-3.0 * number / full) - 9.0 * (config["tau"] - 2.0) ** 2 + noise
        return epoch(number, accuracy, 0.1 * config["step"] + 0.01 * config["tau"], config["step"])

    while (job := scheduler.suggest()) is not None:
        for number in range(job.epoch + 1, full + 1):
            if scheduler.on_result(job.number, report(scheduler.trials[job.number].config, number)) != "continue":
                break
    assert dry_run.expected_epochs(space, 40) == pytest.approx(scheduler.budget.epochs_spent, rel=0.35)


def test_the_report_says_what_a_budget_in_trials_costs(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "NUM_SAMPLES", 20)
    monkeypatch.setattr(dry_run, "seconds_per_image", lambda config: 0.001)
    promote = list(dry_run.lines(read_space("scheduler.mode=promote"), 1))
    assert any(line.startswith("the search: about 44 epochs, ") for line in promote)
    assert "  successive halving, then the first fronts to the end: about 3 trials in full" in promote
    limited = list(dry_run.lines(read_space("budget.epochs_total=20"), 1))
    assert any(line.startswith("the search: about 20 epochs, ") for line in limited)
    assert not any("first fronts" in line for line in limited)
