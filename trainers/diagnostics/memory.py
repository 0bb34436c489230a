"""Memory of a training: reuse between steps, peak, and release at the end.

glibc returns large blocks to the kernel at the end of each step and then gets them back page by page, which takes 5 to
9 % of a step on the CPU. Freed memory therefore stays with the process until `release_memory`.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from contextlib import suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAX_FROM_HEAP = 32 * 2**20
"""The maximum of glibc on 64-bit machines (mallopt(3)); larger blocks are mapped each time."""
NEVER = 2**31 - 1
OUT_OF_MEMORY = (
    *("out of memory", "out_of_memory", "cannot allocate memory", "can't allocate memory", "not enough memory"),
    *("cudaerrormemoryallocation", "bad_alloc", "bad allocation"),
    *("status_alloc_failed", "cufft_alloc_failed", "allocation_failed", "insufficient_resources"),
    *("cublas_status_not_initialized", "cudnn_status_not_initialized", "cusolver_status_not_initialized"),
    *("unable to find an engine to execute this computation", "unable to find a valid cudnn algorithm"),
)
"""Parts of the messages for lack of memory: of PyTorch's allocators, CUDA, C++, and the libraries of CUDA, which cannot
create a handle or a workspace then, or reject every algorithm."""
ALLOCATOR_SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Environment variables of PyTorch's allocator on the GPU."""
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
    """Returns whether an error, or one that caused it, means that the GPU or the machine ran out of memory."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        text = str(current).lower()
        if isinstance(current, MemoryError | torch.OutOfMemoryError) or any(words in text for words in OUT_OF_MEMORY):
            return True
        seen.add(id(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return False


def context_error() -> str | None:
    """Returns the error that every call of CUDA in this process gives, or None if CUDA works or is unused."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return None if is_out_of_memory(error) else str(error).splitlines()[0]
    return None


def use_expandable_segments() -> None:
    """Lets PyTorch's allocator extend its segments, unless the user has set it up; before the first use of CUDA.

    Fixed segments reserve 1.04 to 1.96 times the memory of the tensors, expandable ones 1.00 to 1.06 times.
    """
    if not any(name in os.environ for name in ALLOCATOR_SETTINGS):
        os.environ[ALLOCATOR_SETTINGS[0]] = "expandable_segments:True"


def reset_peak(device: torch.device) -> None:
    """Restarts the measurement of `peak_gib`, as a worker trains one config after another."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # resetting does not initialize CUDA itself
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)


def peak_gib(device: torch.device) -> float:
    """Returns the peak memory since `reset_peak`: that reserved on the GPU for CUDA, else the process's resident set.

    Reserved memory is what other processes on the GPU cannot have: tensors, and gaps between them.

    On systems without a resettable peak, it is the peak since the process started.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
