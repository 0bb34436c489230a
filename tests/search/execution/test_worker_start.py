"""A search whose workers do not start: the message, its reason and the end. No Ray is started here."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from config.cli import ENVIRONMENT, CommandError
from search.execution import worker_start
from search.execution.worker_start import GIVE_UP_S, REPORT_S, WorkerStart, start_problem

BASH = "bash: -c: line 1: syntax error near unexpected token `('"


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a local Ray's logs, without a problem in them."""
    (tmp_path / "worker-1-2-3.err").write_text(":job_id:01000000\n:task_name:f\n")
    (tmp_path / "raylet.out").write_text("[I] (raylet) worker_pool.cc: Starting worker process with pid 3\n")
    monkeypatch.setattr(worker_start, "local_logs", lambda: tmp_path)
    return tmp_path


def test_after_a_minute_without_a_worker_the_reason_is_reported_once(logs: Path) -> None:
    (logs / "raylet.err").write_text(f"{BASH}\nbash: -c: line 1: `exec /a venv/bin/python'\n")
    shown: list[str] = []
    start = WorkerStart(shown.append)
    for now in (0.0, REPORT_S - 1, REPORT_S + 1, REPORT_S + 2):
        start.poll(1000 + now)
    assert shown == [f"no worker has started within 60 s: {BASH}. Ray's logs: {logs}"]


def test_without_a_worker_for_minutes_the_search_ends_with_the_reason(logs: Path) -> None:
    start = WorkerStart(lambda text: None)
    start.poll(0.0)
    with pytest.raises(CommandError, match="no worker has started within 300 s: Ray gives no reason") as raised:
        start.poll(GIVE_UP_S)
    assert raised.value.code == ENVIRONMENT


def test_once_a_worker_has_started_nothing_is_reported(logs: Path) -> None:
    shown: list[str] = []
    start = WorkerStart(shown.append)
    start.poll(0.0)
    start.end()
    start.poll(10 * GIVE_UP_S)
    assert shown == []


def test_on_a_cluster_trials_wait_for_resources_and_the_free_ones_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_start, "local_logs", lambda: None)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0, "memory": 1e9})
    shown: list[str] = []
    start = WorkerStart(shown.append)
    start.poll(0.0)
    start.poll(10 * GIVE_UP_S)
    assert shown == ["no worker has started within 60 s: 1 of 8 CPU, 0 of 2 GPU of the cluster are free"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("raylet.err", "bash: line 1: /opt/python: Permission denied"),
        ("worker-1-2-3.err", "ModuleNotFoundError: No module named 'ray'"),
        ("runtime_env_setup-01000000.log", "RuntimeError: failed to create it"),
        ("raylet.out", "[W] Some workers of the worker process(7) have not registered within the timeout."),
    ],
)
def test_the_reason_is_found_in_each_of_the_logs(logs: Path, name: str, line: str) -> None:
    assert start_problem(logs) is None
    (logs / name).write_text(f"[I] all is well\n{line}\nand more\n")
    assert start_problem(logs) == line
