"""Shares of a GPU's memory, and the end of processes whose CUDA context is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search.execution import gpu_process, worker
from search.execution.gpu_process import CONTEXT_LOST, limit_memory, tensor_share
from search.execution.gpu_shares import CONTEXT_GIB
from search.messages import REPORT, TASK, BatchReport, Failure, TrialTask, WorkerTask
from trainers.diagnostics import memory
from trainers.diagnostics.health import TrainingFailure


class ProcessEnded(BaseException):
    """Raised in place of the end of the process."""


@pytest.fixture
def lost_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

    def end(code: int) -> None:
        raise ProcessEnded(code)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_process.os, "_exit", end)


def task(count: int, folder: Path) -> dict[str, Any]:
    return {TASK: WorkerTask(tuple(TrialTask(i, {}, str(folder)) for i in range(count)))}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.usefixtures("lost_context")
def test_a_worker_whose_context_is_lost_ends_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], members: int
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("ray.tune.report", sent.append)
    with pytest.raises(ProcessEnded) as ended:
        worker.run_trial(task(members, tmp_path))
    assert (ended.value.args, sent) == ((CONTEXT_LOST,), [])
    assert "an illegal memory access was encountered); the process ends" in capsys.readouterr().err


@pytest.mark.usefixtures("lost_context")
def test_a_batch_whose_members_failed_with_the_context_is_not_reported() -> None:
    with pytest.raises(ProcessEnded):
        worker._batch_report({0: RuntimeError("CUDA error"), 1: RuntimeError("CUDA error")})


def test_an_error_with_a_working_context_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("ray.tune.report", sent.append)
    worker.run_trial(task(1, tmp_path))
    worker.run_trial(task(2, tmp_path))
    assert [type(report[REPORT]) for report in sent] == [Failure, BatchReport]
    assert isinstance(worker._batch_report({0: TrainingFailure("silent", "no spikes")}), BatchReport)


def test_lack_of_memory_is_no_lost_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert memory.context_error() is None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5])
def test_all_processes_with_their_contexts_fit_on_a_gpu(share: float) -> None:
    limit = tensor_share(share, 80.0)
    assert 0.5 * share <= limit < share
    if share > 2 * CONTEXT_GIB / 80.0:
        assert limit * 80.0 + CONTEXT_GIB == pytest.approx(share * 80.0)


def test_a_whole_gpu_has_no_limit() -> None:
    assert tensor_share(1.0, 80.0) == tensor_share(2.0, 80.0) == 1.0


@pytest.mark.parametrize(("share", "limits"), [(0.0, []), (0.5, [0.5 - CONTEXT_GIB / 40]), (1.0, [1.0])])
def test_the_limit_follows_the_share_of_each_task(
    monkeypatch: pytest.MonkeyPatch, share: float, limits: list[float]
) -> None:
    class Properties:
        total_memory = 40 * 2**30

    found: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", found.append)
    limit_memory(share)
    assert found == pytest.approx(limits)


@pytest.mark.parametrize("name", [None, *memory.ALLOCATOR_SETTINGS])
def test_segments_are_expandable_unless_the_user_set_up_the_allocator(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    environment = {} if name is None else {name: "max_split_size_mb:64"}
    monkeypatch.setattr(memory.os, "environ", environment)
    memory.use_expandable_segments()
    expected = {memory.ALLOCATOR_SETTINGS[0]: "expandable_segments:True"} if name is None else environment
    assert environment == expected


@pytest.mark.parametrize("device", [0, 3, "cpu", None])
def test_a_worker_takes_the_gpu_that_ray_gives_it(tmp_path: Path, device: int | str | None) -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "device": device}
    found = worker.train_config(TrialTask(0, keys, str(tmp_path)))
    assert found.device == ("cuda" if isinstance(device, int) else device)
