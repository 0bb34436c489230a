"""Predicted memory, and larger GPU shares for trials that need more."""

from __future__ import annotations

import random
from typing import Any

import pytest

from search.algorithm.trial import Suggestion, Trial
from search.execution import gpu_shares, memory_estimate
from search.space.schema import Resources
from trainers.config import TrainConfig

KEYS = {"dataset": "cifar10", "model": "spikformer_cifar", "epochs": 1, "num_heads": 4, "patch_size": 4}
QUARTER = Resources(cpu=2, gpu=0.25)


def configs(count: int) -> list[TrainConfig]:
    sampler = random.Random(0)
    sampled: list[dict[str, Any]] = [
        {
            "step": sampler.choice([1, 2, 4]),
            "embed_dim": sampler.choice([64, 128, 256]),
            "depths": sampler.choice([1, 2, 4]),
        }
        for _ in range(count)
    ]
    return [
        TrainConfig.model_validate({**KEYS, **values, "batch_size": sampler.choice([32, 128])}) for values in sampled
    ]


def trials_with(taken: list[tuple[dict[str, Any], float]]) -> list[Trial]:
    suggestion = Suggestion({}, {}, {})
    return [Trial(i, suggestion, keys, epochs={1: {"peak_mem_gib": gib}}) for i, (keys, gib) in enumerate(taken)]


def test_the_memory_of_some_trials_predicts_that_of_others() -> None:
    taken = [(config.dump(), memory_estimate.predict(config).gib) for config in configs(20)]
    ratios = [(gpu_shares.predict_gib(keys, taken[:8]) or 0.0) / gib for keys, gib in taken[8:]]
    assert all(0.85 < ratio < 1.5 for ratio in ratios), ratios


def test_there_is_no_prediction_from_few_trials() -> None:
    small = configs(1)[0].dump()
    assert gpu_shares.predict_gib(small, [(small, 1.0)] * (gpu_shares.MIN_TRIALS - 1)) is None
    assert gpu_shares.resources_for(small, trials_with([(small, 20.0)] * 2), QUARTER, gpu_gib=40.0) == QUARTER


@pytest.mark.parametrize(("gib", "share"), [(2.0, 0.25), (12.0, 0.5), (30.0, 1.0), (300.0, 1.0)])
def test_a_trial_gets_a_share_that_fits_its_memory(gib: float, share: float) -> None:
    config = configs(1)[0].dump()
    found = gpu_shares.resources_for(config, trials_with([(config, gib)] * 6), QUARTER, gpu_gib=40.0)
    assert (found.gpu, found.cpu) == (share, QUARTER.cpu)


@pytest.mark.parametrize(("usual", "gpu_gib"), [(QUARTER, None), (Resources(gpu=1), 40.0), (Resources(), 40.0)])
def test_a_share_is_unchanged_without_a_known_gpu_or_an_initial_share(usual: Resources, gpu_gib: float | None) -> None:
    config = configs(1)[0].dump()
    assert gpu_shares.resources_for(config, trials_with([(config, 99.0)] * 6), usual, gpu_gib) == usual


def test_a_machine_without_a_gpu_has_no_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert gpu_shares.gpu_memory_gib.__wrapped__() is None
