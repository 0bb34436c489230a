"""`search.status`: a study shown by another process, without changing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from search import status
from search.storage import lock
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def test_the_time_of_a_running_search_counts_each_hour_once(half_done: Study, tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        held = json.loads((tmp_path / "driver.lock").read_text())
        started = (datetime.now() - timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S")
        (tmp_path / "driver.lock").write_text(json.dumps({**held, "since": started}))
        lock.update(tmp_path, slots=2, hours_before=1.0)
        half_done.optuna.set_user_attr("hours", 3.0)  # stored a moment ago
        assert status.snapshot(tmp_path).elapsed_s == pytest.approx(3 * 3600, abs=60)


def test_the_command_shows_a_study_and_refuses_other_folders(
    half_done: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main([str(tmp_path)]) == 0
    assert "study small" in capsys.readouterr().out
    assert status.main([str(tmp_path / "nothing")]) == 2
    assert "no such study folder" in capsys.readouterr().err


def test_watching_a_study_without_a_driver_shows_it_once(half_done: Study, tmp_path: Path) -> None:
    assert status.main([str(tmp_path), "--watch"]) == 0


def test_showing_a_study_changes_nothing(half_done: Study, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".db-shm" and path.is_file()
        }

    before = content()
    status.snapshot(tmp_path)
    assert content() == before
