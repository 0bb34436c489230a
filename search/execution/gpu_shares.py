"""GPU shares: the share of the space file, or a larger one for trials that are predicted to need more memory.

The prediction is a Bayesian linear regression on the `peak_mem_gib` of earlier trials. It regresses the logarithm of
the memory on the logarithms of batch x steps, tokens, width and depth, with a prior that all slopes are 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Reversible, Sequence
from functools import cache
from typing import Any

import numpy as np

from results.pareto import Floats
from search.algorithm.trial import Trial
from search.space.schema import Resources

CONTEXT_GIB = 0.6
"""Memory of a process before its first tensor: CUDA's context and kernels."""
FRAGMENTATION = 1.15
"""Memory that PyTorch's allocator reserves over that of all tensors."""
MIN_TRIALS = 3
"""Measured trials before the first prediction."""
MAX_TRIALS = 100
"""The last trials that the regression uses."""
SLOPE_SD, NOISE = 0.5, 0.1
"""Standard deviations of the slopes around 1, and of the logarithm of the memory."""


@cache
def gpu_memory_gib() -> float | None:
    """Returns the memory of the smallest NVIDIA GPU of this machine, None if it has none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return min((pynvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30 for gpu in gpus), default=None)
    except pynvml.NVMLError:
        return None


def resources_for(
    config: Mapping[str, Any], trials: Reversible[Trial], usual: Resources, gpu_gib: float | None
) -> Resources:
    """Returns the usual resources, with the GPU share doubled until the predicted memory fits."""
    if gpu_gib is None or not 0 < usual.gpu < 1:
        return usual
    measured = (t for t in reversed(trials) if "peak_mem_gib" in t.epochs.get(t.epoch, {}))
    peaks = [(t.config, t.epochs[t.epoch]["peak_mem_gib"]) for t in itertools.islice(measured, MAX_TRIALS)]
    predicted = predict_gib(config, peaks)
    if predicted is None:
        return usual
    share, wanted = usual.gpu, (FRAGMENTATION * predicted + CONTEXT_GIB) / gpu_gib
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
