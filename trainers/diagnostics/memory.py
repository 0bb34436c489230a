"""Memory of a training: reuse between steps, peak, and release at the end.

glibc returns large blocks to the kernel at the end of each step and then gets them back page by page, which takes 5 to
9 % of a step on the CPU. Freed memory therefore stays with the process until `release_memory`.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAX_FROM_HEAP = 32 * 2**20
"""The maximum of glibc on 64-bit machines (mallopt(3)); larger blocks are mapped each time."""
NEVER = 2**31 - 1
PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Resets Linux's peak resident set size to the current one (proc(5), clear_refs)."""


def keep_freed_memory() -> bool:
    """Sets glibc's thresholds for the process. Returns False without glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(M_MMAP_THRESHOLD, MAX_FROM_HEAP)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def release_memory() -> None:
    """Releases a training's memory: models are in reference cycles, and glibc and PyTorch cache freed blocks."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no type for it
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that the GPU or the machine ran out of memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "cannot allocate memory" in text


def reset_peak(device: torch.device) -> None:
    """Restarts the measurement of `peak_gib`, as a worker trains one config after another."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # resetting does not initialize CUDA itself
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)


def peak_gib(device: torch.device) -> float:
    """Returns the peak memory since `reset_peak`: the GPU's for CUDA, else the process's resident set.

    On systems without a resettable peak, it is the peak since the process started.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
