"""Training step on a GPU: images per second, peak memory, and the share of the GPU's matrix multiplication speed.

Spikformer-4-384 at 32x32, T = 4, with bf16 autocast and in fp32, with our neurons, SpikingJelly's and ReLU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.variants import VARIANTS, make_step, variant
from models import create_model

BATCH = 128
MATRIX = 8192
WARM_UP = 3


def measure(rounds: int) -> dict[str, Any]:
    """Returns the figures of each precision."""
    return {"bf16": _measure(torch.bfloat16, rounds), "fp32": _measure(None, rounds)}


def _measure(dtype: torch.dtype | None, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    keys = {"model": "spikformer_cifar", "step": 4, "embed_dim": 384, "num_heads": 12, "depths": 4, "num_classes": 10}
    model = create_model({**keys, "in_channels": 3, "img_size": 32, "patch_size": 4})
    x, labels = torch.randn(BATCH, 3, 32, 32, device="cuda"), torch.randint(10, (BATCH,), device="cuda")
    limit = _flops_per_s(dtype or torch.float32)
    found: dict[str, Any] = {}
    for name in VARIANTS:
        step = make_step(variant(model, name, compiled=False).cuda(), x, labels, dtype)
        with FlopCounterMode(display=False) as counter:
            step()
        torch.cuda.reset_peak_memory_stats()
        seconds = _seconds(step, rounds)
        found[name] = {
            "images_per_s": BATCH / seconds,
            "peak_mem_gib": torch.cuda.max_memory_allocated() / 2**30,
            "share_of_matmul_limit": counter.get_total_flops() / seconds / limit,
        }
    speed = {name: figures["images_per_s"] for name, figures in found.items()}
    found["step_vs_spikingjelly"] = speed["ours"] / speed["spikingjelly"]
    found["fraction_of_relu_limit"] = speed["ours"] / speed["relu"]
    return found


def _flops_per_s(dtype: torch.dtype) -> float:
    """Returns the speed of a large matrix multiplication, the limit of a training step."""
    a = torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype)
    return 2.0 * MATRIX**3 / _seconds(lambda: a @ a, 10)


def _seconds(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(WARM_UP + rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return median(taken[WARM_UP:])
