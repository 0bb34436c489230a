"""Counters of the null GPU, read inside a process that runs on it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

COUNTERS = (
    *("kernels", "library_calls", "jit_kernels", "memsets", "syncs", "to_device", "to_host", "on_device"),
    *("to_device_bytes", "to_host_bytes", "allocations", "graph_launches", "graph_nodes", "refused_in_capture"),
    "collectives",
)
"""The order is that of null_gpu.h."""
LAUNCHES = ("kernels", "library_calls", "jit_kernels", "memsets")

_library = ctypes.CDLL(os.environ["LD_PRELOAD"])
_library.null_gpu_counters.restype = ctypes.POINTER(ctypes.c_long)


def reset() -> None:
    """Sets all counters to 0."""
    _library.null_gpu_reset()


def read() -> dict[str, int]:
    """Returns the counters since the last reset; `launches` is the sum of all kinds."""
    values = _library.null_gpu_counters()
    found = {name: int(values[i]) for i, name in enumerate(COUNTERS)}
    return {**found, "launches": sum(found[name] for name in LAUNCHES)}


def names() -> Counter[str]:
    """Returns the launches by name of kernel or library function."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "names.txt")
        _library.null_gpu_write_names(str(path).encode())
        rows = [line.split("\t") for line in path.read_text().splitlines()]
    text = "\n".join(name for _, name in rows)
    plain = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
    found: Counter[str] = Counter()
    for (count, _), name in zip(rows, plain, strict=True):
        found[name] += int(count)
    return found


def break_context(*, is_broken: bool) -> None:
    """Ends the CUDA context as an illegal memory access does, or repairs it."""
    _library.null_gpu_break(int(is_broken))


def fail_library(prefix: str, status: int) -> None:
    """Lets the library calls whose names start with `prefix` return a status; "" ends it."""
    _library.null_gpu_fail(prefix.encode(), status)
