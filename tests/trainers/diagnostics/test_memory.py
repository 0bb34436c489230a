"""Memory between trainings: freed memory stays with the process until it is released, and a peak is that of one
training."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from trainers.diagnostics.memory import reset_peak

PROGRAM = """
import resource, torch
from trainers.diagnostics.memory import keep_freed_memory
is_set = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**20) for _ in range(20)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(is_set, *(faults() for _ in range(3)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_later_steps_need_few_new_pages() -> None:
    is_set, first, _, third = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split()
    assert is_set == "False" or int(third) < int(first) / 4


ANOTHER = """
import torch
from trainers.diagnostics.memory import release_memory, keep_freed_memory, peak_gib, reset_peak
keep_freed_memory()
cpu = torch.device("cpu")
blocks = [torch.ones(2**18) for _ in range(300)]
peaks = [peak_gib(cpu)]
del blocks
release_memory()
reset_peak(cpu)
peaks += [peak_gib(cpu)]
print(*peaks)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's, and /proc")
def test_the_next_training_does_not_hold_or_report_the_memory_of_the_last_one() -> None:
    before, after = map(float, subprocess.check_output([sys.executable, "-c", ANOTHER], text=True).split())
    assert after < before - 0.25, (before, after)


def test_cuda_is_initialized_before_its_peak_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "init", lambda: called.append("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: called.append("reset"))
    reset_peak(torch.device("cuda", 0))
    assert called == ["init", "reset"]
