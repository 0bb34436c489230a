"""Crashes: a search that is killed at any of its writes and resumed gives the results of an undisturbed search.

Study, event log and checkpoints are real; Ray is not used, and the training state is two numbers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from sqlalchemy import Engine, event

import results
from search.storage.database import open_storage
from search.storage.event_log import EventLog
from search.storage.study import Study
from tests.search.conftest import _epoch, small_space
from trainers import checkpoint

SPACE = (
    "budget={trials: 6, epochs: 4}",
    "scheduler={name: moasha, mode: promote, grace_epochs: 1, reduction_factor: 2}",
)
ENDED, CRASHED = 0, 9


def search(folder: Path) -> None:
    """Runs or resumes a search to its end, one trial at a time."""
    folder.mkdir(exist_ok=True)
    study = Study(small_space(*SPACE), folder, open_storage(folder))
    while (task := study.next_task()) is not None:
        train(study, task)
    study.finish()
    study.close()


def train(study: Study, task: Any) -> None:
    """Trains as the trainer does: resumes from the newest checkpoint, reports it again, saves before it reports."""
    saved = checkpoint.load_newest(Path(task.folder)) or {"epoch": 0, "weight": torch.zeros(1)}
    while True:
        if saved["epoch"] and report(study, task, saved) == "stop":
            return
        learned = saved["weight"] + 1 / (task.config["tau"] + saved["epoch"])
        saved = {"epoch": saved["epoch"] + 1, "weight": learned}
        checkpoint.save(Path(task.folder), saved["epoch"], saved)


def report(study: Study, task: Any, saved: dict[str, Any]) -> str:
    accuracy = 30.0 + 20.0 * float(saved["weight"])
    return study.on_result(task.number, _epoch(saved["epoch"], accuracy, task.config["tau"] / 10, task.config["step"]))


def crash_at(write: int) -> Callable[[], int]:
    """Makes this process exit before its n-th write, or within it for a file; returns the counter of writes."""
    count = 0

    def is_due() -> bool:
        nonlocal count
        count += 1
        return count == write

    def die() -> NoReturn:
        os._exit(CRASHED)

    def before(function: Callable[..., Any], half: Callable[..., Any] = lambda *given: None) -> Callable[..., Any]:
        def crashing(*given: Any, **named: Any) -> Any:
            if is_due():
                half(*given)
                die()
            return function(*given, **named)

        return crashing

    def half_a_line(log: EventLog, *given: Any) -> None:
        log._file.write('{"event": "dec')
        log._file.flush()

    def half_a_file(state: Any, path: Path) -> None:
        path.write_bytes(b"half")

    event.listen(Engine, "commit", lambda connection: die() if is_due() else None)
    EventLog.write = before(EventLog.write, half_a_line)  # type: ignore[method-assign]
    checkpoint._save = before(checkpoint._save, half_a_file)
    os.replace = before(os.replace)
    shutil.rmtree = before(shutil.rmtree)  # type: ignore[assignment]
    Path.unlink = before(Path.unlink)  # type: ignore[method-assign]
    return lambda: count


def in_a_process(folder: Path, write: int) -> tuple[int, int]:
    """Searches in a separate process that exits at a write; returns its exit code and its number of writes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            written = crash_at(write)
            search(folder)
            os.write(writer, str(written()).encode())
            code = ENDED
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(count or 0)


def table(folder: Path) -> list[Any]:
    """Returns the results of a search without times."""
    return [(t.number, t.state, t.params, t.epochs, t.read_outs) for t in results.load(folder).trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An undisturbed search: its folder and its number of writes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "small"
    code, writes = in_a_process(folder, write=0)
    assert code == ENDED
    assert writes > 100
    return folder, writes


def check_crashes(undisturbed: tuple[Path, int], tmp_path: Path, every: int) -> None:
    whole, writes = undisturbed
    for write in range(1, writes + 1, every):
        folder = tmp_path / f"small{write}"
        assert in_a_process(folder, write)[0] == CRASHED
        assert in_a_process(folder, write=0)[0] == ENDED, f"after a crash at write {write}"
        assert table(folder) == table(whole), f"after a crash at write {write}"
        events = [(path / "events.jsonl").read_text().splitlines() for path in (folder, whole)]
        assert sorted(events[0]) == sorted(events[1]), f"after a crash at write {write}"
        names = [sorted(path.name for path in (path / "checkpoints").iterdir()) for path in (folder, whole)]
        assert names[0] == names[1]
        shutil.rmtree(folder)


def test_a_search_that_crashes_at_some_of_its_writes_resumes_with_equal_results(
    undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    check_crashes(undisturbed, tmp_path, every=47)


@pytest.mark.slow
def test_a_search_that_crashes_at_any_of_its_writes_resumes_with_equal_results(
    undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    check_crashes(undisturbed, tmp_path, every=1)


@pytest.mark.slow
def test_a_search_that_crashes_many_times_reaches_its_end(undisturbed: tuple[Path, int], tmp_path: Path) -> None:
    whole, _ = undisturbed
    folder, crashes = tmp_path / "small", 0
    while in_a_process(folder, write=40 + 10 * crashes)[0] == CRASHED:  # each reopening writes more
        crashes += 1
    assert crashes > 3
    assert table(folder) == table(whole)
