"""Freed memory stays with the process, since the next step of training asks for the same sizes again.

By itself glibc hands large blocks back to the kernel at the end of each step, and gets them anew page by page: 5 to 9 %
of a step on the CPU.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_FROM_HEAP = 32 * 2**20
"""The most that glibc accepts on 64-bit machines (mallopt(3)); larger blocks are mapped each time."""
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Sets glibc's thresholds for the process; elsewhere does nothing. Returns whether it did."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
