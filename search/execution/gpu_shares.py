"""How much of a card a trial gets: the share that the space file gives, or more where trials like it took more.

What a trial will take is foretold from what those before it took (`peak_mem_gib`): the logarithm of the memory is a
straight line over the logarithms of batch x steps, tokens, width and depth, whose slopes are near 1 until the trials
tell otherwise (Bayesian linear regression). So a share that is too small costs no trial its run.
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
"""What a process takes of a card before its first tensor: CUDA's context and kernels."""
GAPS = 1.15
"""What PyTorch's allocator holds over what tensors take."""
FEWEST = 3
"""Trials before anything is foretold."""
MOST = 100
"""The last trials that are learned from."""
SLOPE_SD, NOISE = 0.5, 0.1
"""How far slopes may be from 1, and the noise of the logarithm of the memory."""


@cache
def card_gib() -> float | None:
    """Returns the memory of the smallest NVIDIA card of this machine, None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return min((pynvml.nvmlDeviceGetMemoryInfo(card).total / 2**30 for card in cards), default=None)
    except pynvml.NVMLError:
        return None


def resources_for(
    config: Mapping[str, Any], records: Reversible[Trial], usual: Resources, card: float | None
) -> Resources:
    """Returns what a trial gets: the usual, or a share of a card that holds it, doubled until it does."""
    if card is None or not 0 < usual.gpu < 1:
        return usual
    measured = (r for r in reversed(records) if "peak_mem_gib" in r.epochs.get(r.epoch, {}))
    taken = [(r.config, r.epochs[r.epoch]["peak_mem_gib"]) for r in itertools.islice(measured, MOST)]
    gib = predict_gib(config, taken)
    if gib is None:
        return usual
    share, wanted = usual.gpu, (GAPS * gib + CONTEXT_GIB) / card
    while share < min(wanted, 1.0):
        share = min(2 * share, 1.0)
    return usual.model_copy(update={"gpu": share})


def predict_gib(config: Mapping[str, Any], taken: Sequence[tuple[Mapping[str, Any], float]]) -> float | None:
    """Returns the GiB that a config will take, one standard deviation above the mean; None where too few have run."""
    if len(taken) < FEWEST:
        return None
    known = np.array([sizes(other) for other, _ in taken])
    left = np.log([max(gib, 1e-6) for _, gib in taken]) - known.sum(axis=1)  # from slopes of 1
    center, base = known.mean(axis=0), float(left.mean())
    x = known - center
    precision = x.T @ x / NOISE**2 + np.eye(x.shape[1]) / SLOPE_SD**2
    slopes = np.linalg.solve(precision, x.T @ (left - base) / NOISE**2)
    at = sizes(config) - center
    mean = sizes(config).sum() + base + at @ slopes
    variance = NOISE**2 * (1.0 + 1.0 / len(taken)) + at @ np.linalg.solve(precision, at)
    return float(math.exp(mean + math.sqrt(variance)))


def sizes(config: Mapping[str, Any]) -> Floats:
    """Returns the logarithms `[4]` of batch x steps, tokens, width and depth of a train file."""
    tokens = (float(config["img_size"]) / float(config["patch_size"])) ** 2
    depth = float(np.sum(config["depths"]))
    width = float(np.mean(config["embed_dim"]))
    found: Floats = np.log([float(config["batch_size"]) * float(config["step"]), tokens, width, depth])
    return found
