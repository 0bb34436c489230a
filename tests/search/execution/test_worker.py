"""Memory of a worker process after a trial, and the classes of failures."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from search.execution import worker
from search.messages import REPORT, TASK, BatchProgress, EpochReport, Report, TrialTask, WorkerTask
from trainers.data.sources import DataError
from trainers.epoch_metrics import EpochMetrics

MAX_GROWTH_MIB = 30


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.slow
def test_a_worker_does_not_grow_from_trial_to_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", results.append)
    keys = {"model": "spikformer_cifar", "dataset": "digits", "embed_dim": 16, "num_heads": 2, "depths": 1, "step": 1}
    keys |= {"img_size": 8, "patch_size": 2, "in_channels": 1, "num_classes": 10, "epochs": 1, "batch_size": 64}
    sizes = []
    for number in range(12):
        worker.run_trial({TASK: WorkerTask((TrialTask(number, keys, str(tmp_path / str(number))),))})
        sizes.append(resident_mib())
    assert [type(result[REPORT]) for result in results] == [EpochReport] * 12
    assert sizes[-1] - sizes[2] < MAX_GROWTH_MIB  # the first ones load what all of them use


@pytest.mark.parametrize(
    ("error", "failure_class"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "environment"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "environment"),
        (DataError("images/cats/1.png cannot be read"), "environment"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory. Error code 12 (Cannot allocate memory)"), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "oom"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "oom"),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), "oom"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "oom"),
        (RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (caused_by(RuntimeError("compilation failed"), torch.OutOfMemoryError("CUDA out of memory.")), "oom"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "error"),
    ],
)
def test_a_full_disk_and_lost_data_are_failures_of_the_environment(error: Exception, failure_class: str) -> None:
    assert worker.classify_failure(error).failure_class == failure_class


def test_cyclic_garbage_of_a_trial_is_freed_for_any_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def run(task: WorkerTask) -> None:
        Held()
        raise SystemExit

    emptied: list[bool] = []
    monkeypatch.setattr(worker, "_run", run)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    with pytest.raises(SystemExit):
        worker.run_trial({TASK: None})
    assert Held.alive == 0
    assert emptied == [True]


@pytest.mark.parametrize("interval_s", [0.0, 3600.0])
def test_batches_are_reported_within_an_epoch_if_it_takes_long(interval_s: float) -> None:
    sent: list[Report] = []
    reporter = worker.ProgressReporter(sent.append, interval_s)
    first = EpochMetrics(1, {}, [], [])
    reporter.on_batch(50, 200)
    reporter.on_epoch(first)
    reporter.on_batch(100, 200)
    batches = [BatchProgress(1, 50, 200), EpochReport(first), BatchProgress(2, 100, 200)]
    assert sent == (batches if interval_s == 0.0 else [EpochReport(first)])
