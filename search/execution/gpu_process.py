"""The GPU as a worker process sees it: its share of the memory, and errors that its CUDA context does not survive."""

from __future__ import annotations

import os
import sys

from search.execution.gpu_shares import CONTEXT_GIB

CONTEXT_LOST = 70
"""Exit code of a worker whose CUDA context is lost."""
MIN_SHARE_LEFT = 0.5
"""Smallest part of a share that is left to tensors, where the context takes most of it."""


def limit_memory(share: float) -> None:
    """Limits the tensors of this process to its share of the GPU, so that an overdrawn trial fails alone.

    A share of 1 removes the limit. Without a GPU, or with a share of 0, nothing happens.
    """
    import torch

    from trainers.diagnostics.memory import use_expandable_segments

    use_expandable_segments()
    if share <= 0 or not torch.cuda.is_available():
        return
    total_gib = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30
    torch.cuda.set_per_process_memory_fraction(tensor_share(share, total_gib))


def tensor_share(share: float, total_gib: float) -> float:
    """Returns the part of a GPU's memory that a process with this share has for tensors."""
    if share >= 1.0:
        return 1.0
    return max(share - CONTEXT_GIB / total_gib, MIN_SHARE_LEFT * share)


def end_if_context_is_lost() -> None:
    """Ends the process if its CUDA context is lost; every later trial in it would fail.

    After an illegal memory access, a failed assertion of a kernel or a hardware error, all calls of CUDA in the process
    fail. The restart policy counts the death and starts the trial again, in a new process.
    """
    from trainers.diagnostics.memory import context_error

    reason = context_error()
    if reason is not None:
        print(f"the CUDA context is lost ({reason}); the process ends", file=sys.stderr, flush=True)
        os._exit(CONTEXT_LOST)  # handlers at exit would call CUDA
