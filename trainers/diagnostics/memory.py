"""What a training takes of memory: kept from step to step, measured at its peak, and given back at its end.

By itself glibc hands large blocks back to the kernel at the end of each step, and gets them anew page by page: 5 to 9 %
of a step on the CPU. So freed memory stays with the process until `give_back`.
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
"""The most that glibc accepts on 64-bit machines (mallopt(3)); larger blocks are mapped each time."""
NEVER = 2**31 - 1
PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Makes the largest resident set that Linux remembers the present one (proc(5), clear_refs)."""


def keep_freed_memory() -> bool:
    """Sets glibc's thresholds for the process; elsewhere does nothing. Returns whether it did."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(M_MMAP_THRESHOLD, MAX_FROM_HEAP)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def release_memory() -> None:
    """Gives back what a training held: models stand in cycles, and glibc and PyTorch keep what was freed."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no type for it
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory was short, on the card or on the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "cannot allocate memory" in text


def reset_peak(device: torch.device) -> None:
    """Lets `peak_gib` count from now on: a worker trains one config after the other."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # nothing else has yet, and resetting does not
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)


def peak_gib(device: torch.device) -> float:
    """Returns the largest memory since `restart_peak`: the card's for CUDA, else the process's resident set.

    Where the system cannot tell that of a while, it is the largest of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
