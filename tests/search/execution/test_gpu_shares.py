"""Predicted memory, and larger GPU shares for trials that need more."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
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
    assert gpu_shares.resources_for([small], trials_with([(small, 20.0)] * 2), QUARTER, gpu_gib=40.0) == QUARTER


@pytest.mark.parametrize(("gib", "share"), [(2.0, 0.25), (12.0, 0.5), (30.0, 1.0), (300.0, 1.0)])
def test_a_trial_gets_a_share_that_fits_its_memory(gib: float, share: float) -> None:
    config = configs(1)[0].dump()
    found = gpu_shares.resources_for([config], trials_with([(config, gib)] * 6), QUARTER, gpu_gib=40.0)
    assert (found.gpu, found.cpu) == (share, QUARTER.cpu)


@pytest.mark.parametrize(("usual", "gpu_gib"), [(QUARTER, None), (Resources(gpu=1), 40.0), (Resources(), 40.0)])
def test_a_share_is_unchanged_without_a_known_gpu_or_an_initial_share(usual: Resources, gpu_gib: float | None) -> None:
    config = configs(1)[0].dump()
    assert gpu_shares.resources_for([config], trials_with([(config, 99.0)] * 6), usual, gpu_gib) == usual


@pytest.mark.parametrize(("members", "measured", "share"), [(2, 0, 0.5), (8, 0, 1.0), (2, 6, 0.25), (8, 6, 0.5)])
def test_trials_that_train_as_one_get_a_share_for_all_of_them(members: int, measured: int, share: float) -> None:
    config = configs(1)[0].dump()
    taken = trials_with([(config, 2.0)] * measured)
    assert gpu_shares.resources_for([config] * members, taken, QUARTER, gpu_gib=40.0).gpu == share


def fake_nvml(is_divided: bool) -> SimpleNamespace:
    """Returns NVML with two GPUs of 80 and 24 GiB, the first one optionally divided into two MIG instances."""
    gib = {"GPU-aa": 80, "GPU-bb": 24, "MIG-aa1": 10, "MIG-aa2": 20}

    def instance(gpu: str, index: int) -> str:
        if index > 1:
            raise RuntimeError("not found")
        return ("MIG-aa1", "MIG-aa2")[index]

    def mig_mode(gpu: str) -> tuple[int, int]:
        if gpu == "GPU-bb":
            raise RuntimeError("not supported")
        return (int(is_divided),) * 2

    return SimpleNamespace(
        NVML_DEVICE_MIG_DISABLE=0,
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: ("GPU-aa", "GPU-bb")[index],
        nvmlDeviceGetUUID=lambda gpu: gpu,
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(total=gib[gpu] * 2**30),
        nvmlDeviceGetMigMode=mig_mode,
        nvmlDeviceGetMaxMigDeviceCount=lambda gpu: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=instance,
    )


@pytest.mark.parametrize(
    ("visible", "is_divided", "gib"),
    [
        (None, False, 24),
        ("0", False, 80),
        ("1", False, 24),
        ("1,0", False, 24),
        ("GPU-a", False, 80),
        ("0,-1,1", False, 80),
        ("", False, None),
        ("-1", False, None),
        (None, True, 10),
        ("0", True, 10),
        ("MIG-aa2", True, 20),
        ("1", True, 24),
    ],
)
def test_the_memory_is_that_of_the_smallest_visible_gpu_or_mig_instance(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, is_divided: bool, gib: float | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(is_divided))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_shares.gpu_memory_gib.__wrapped__() == gib


def test_a_machine_without_a_gpu_has_no_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert gpu_shares.gpu_memory_gib.__wrapped__() is None
