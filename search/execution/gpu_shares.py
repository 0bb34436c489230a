"""GPU shares: the share of the space file, or a larger one for trials that are predicted to need more memory.

The prediction is a Bayesian linear regression on the `peak_mem_gib` of earlier trials, the memory that PyTorch reserved
for them. It regresses the logarithm of
the memory on the logarithms of batch x steps, tokens, width and depth, with a prior that all slopes are 1.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Reversible, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from results.pareto import Floats
from search.algorithm.trial import Trial
from search.space.schema import Resources

CONTEXT_GIB = 0.6
"""Memory of a process before its first tensor: CUDA's context and kernels."""
MIN_TRIALS = 3
"""Measured trials before the first prediction."""
MAX_TRIALS = 100
"""The last trials that the regression uses."""
SLOPE_SD, NOISE = 0.5, 0.1
"""Standard deviations of the slopes around 1, and of the logarithm of the memory."""


@cache
def gpu_memory_gib() -> float | None:
    """Returns the memory of the smallest visible NVIDIA GPU of this machine, or MIG instance; None if there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        sizes = [pynvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30 for gpu in _visible_gpus(pynvml)]
        return min(sizes, default=None)
    except pynvml.NVMLError:
        return None


def _visible_gpus(nvml: Any) -> Iterator[Any]:
    """Yields the GPUs, or their MIG instances, that CUDA_VISIBLE_DEVICES shows: indices or beginnings of UUIDs."""
    gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        for gpu in gpus:
            yield from _mig_instances(nvml, gpu) or [gpu]
        return
    for name in (part.strip() for part in shown.split(",")):
        if name.isdigit():
            chosen = [part for gpu in gpus[int(name) : int(name) + 1] for part in _mig_instances(nvml, gpu) or [gpu]]
        else:
            every = [*gpus, *(part for gpu in gpus for part in _mig_instances(nvml, gpu))]
            chosen = [gpu for gpu in every if name and str(nvml.nvmlDeviceGetUUID(gpu)).startswith(name)]
        if not chosen:  # as in CUDA, entries after an invalid one are ignored
            return
        yield from chosen


def _mig_instances(nvml: Any, gpu: Any) -> list[Any]:
    """Returns the MIG instances of a GPU; none if it is not divided."""
    found: list[Any] = []
    with suppress(nvml.NVMLError):  # the GPU has no MIG, or fewer instances than possible
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_DISABLE:
            indices = range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu))
            found.extend(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i) for i in indices)
    return found


def resources_for(
    configs: Sequence[Mapping[str, Any]], trials: Reversible[Trial], usual: Resources, gpu_gib: float | None
) -> Resources:
    """Returns the resources of trials that train in one process: the GPU share is doubled until their memory fits.

    Until memory can be predicted, several trials have the shares of all of them, at most a whole GPU.
    """
    if gpu_gib is None or not 0 < usual.gpu < 1:
        return usual
    measured = (t for t in reversed(trials) if "peak_mem_gib" in t.epochs.get(t.epoch, {}))
    peaks = [(t.config, t.epochs[t.epoch]["peak_mem_gib"]) for t in itertools.islice(measured, MAX_TRIALS)]
    predicted = [predict_gib(config, peaks) for config in configs]
    share, wanted = usual.gpu, usual.gpu * len(configs)
    if None not in predicted:
        wanted = (sum(gib for gib in predicted if gib is not None) + CONTEXT_GIB) / gpu_gib
    while share < min(wanted, 1.0):
        share = min(2 * share, 1.0)
    return usual.model_copy(update={"gpu": share})


def predict_gib(config: Mapping[str, Any], peaks: Sequence[tuple[Mapping[str, Any], float]]) -> float | None:
    """Returns a config's predicted GiB, one standard deviation above the mean; None if too few trials were measured."""
    if len(peaks) < MIN_TRIALS:
        return None
    inputs = np.array([sizes(other) for other, _ in peaks])
    residuals = np.log([max(gib, 1e-6) for _, gib in peaks]) - inputs.sum(axis=1)  # from slopes of 1
    center, base = inputs.mean(axis=0), float(residuals.mean())
    x = inputs - center
    precision = x.T @ x / NOISE**2 + np.eye(x.shape[1]) / SLOPE_SD**2
    slopes = np.linalg.solve(precision, x.T @ (residuals - base) / NOISE**2)
    offset = sizes(config) - center
    mean = sizes(config).sum() + base + offset @ slopes
    variance = NOISE**2 * (1.0 + 1.0 / len(peaks)) + offset @ np.linalg.solve(precision, offset)
    return float(math.exp(mean + math.sqrt(variance)))


def sizes(config: Mapping[str, Any]) -> Floats:
    """Returns the logarithms `[4]` of batch x steps, tokens, width and depth of a config."""
    tokens = (float(config["img_size"]) / float(config["patch_size"])) ** 2
    depth = float(np.sum(config["depths"]))
    width = float(np.mean(config["embed_dim"]))
    found: Floats = np.log([float(config["batch_size"]) * float(config["step"]), tokens, width, depth])
    return found
