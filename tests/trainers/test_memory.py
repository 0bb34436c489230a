"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from trainers.memory import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**20) for _ in range(20)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, *(faults() for _ in range(3)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_later_steps_need_few_new_pages() -> None:
    kept, first, _, third = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split()
    assert kept == "False" or int(third) < int(first) / 4
