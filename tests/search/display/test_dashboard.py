"""The view of a search: what it says, that it fits 80 columns, and that it costs little."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

import results
from results.analysis.front import hypervolume
from results.study import StudyResult, TrialResult
from search import status
from search.display import dashboard
from search.display.dashboard import Dashboard
from search.display.live import LiveView
from search.storage import lock
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def text(shown: Dashboard, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(dashboard.render(shown))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def half_done(open_study: Open, epoch: Epoch) -> Study:
    """A study of twelve trials: three ended, one of them stopped by hand, two failed, one running."""
    study = open_study("scheduler={name: none}")
    for number, accuracy in enumerate([90.0, 95.0, 80.0]):
        task = study.next_task()
        assert task is not None
        for i in range(1, 10):
            if number == 2 and i == 4:
                study.stop(number, "stopped by the user")
            study.on_result(number, epoch(i, accuracy, 0.1 + number / 10, task.config["step"]))
    for _ in range(2):
        task = study.next_task()
        assert task is not None
        study.on_error(task.number, "error", "ValueError: what went wrong\nin line 3")
    study.next_task()
    return study


def test_the_view_says_all_there_is_to_know(half_done: Study, tmp_path: Path) -> None:
    shown = status.snapshot(tmp_path)
    said = text(replace(shown, slots=2))
    for expected in (
        "study small",
        "6 of 12: 1 running, 2 complete, 1 stopped, 2 failed",
        "1 of 2 busy",
        "95.00 % (t0001)",
        "0.1 (t0000)",
        "front",
        "hypervolume",
        "21 trained, 6 saved by stopping",
        "left",
        "2 x error",
        "t0003: ValueError: what went wrong",
        "accuracy over spike_rate",
        "●",
    ):
        assert expected in said
    assert "in line 3" not in said


def test_the_view_fits_eighty_columns_and_a_screen(half_done: Study, tmp_path: Path) -> None:
    lines = text(status.snapshot(tmp_path)).rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24


def test_a_long_reason_of_a_failure_takes_no_room_from_the_names(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    task = study.next_task()
    assert task is not None
    study.on_error(task.number, "error", "long " * 50)
    said = text(status.snapshot(tmp_path))
    assert "lowest spike rate" in said
    assert any(line.startswith("1 x error") and line.rstrip().endswith("\u2026") for line in said.splitlines())


def test_the_hypervolume_over_time_ends_at_the_studys_own(half_done: Study, tmp_path: Path) -> None:
    volumes = status.snapshot(tmp_path).hypervolumes
    assert list(volumes) == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolume(results.load(tmp_path)))


def test_a_study_without_a_point_can_be_shown(open_study: Open, tmp_path: Path) -> None:
    open_study()
    assert "0 of 12" in text(status.snapshot(tmp_path))


def test_a_live_view_of_a_thousand_trials_takes_little_of_the_time(
    half_done: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = half_done.trial_result(0)
    config = first.config
    many = tuple(
        replace(
            first, number=i, epochs=({"epoch": 9, "accuracy": 90.0 + (i * 37 % 1000) / 100, "spike_rate": i / 1e3},)
        )
        for i in range(1000)
    )
    assert config["step"]
    whole = replace(half_done.result(), trials=many)
    started = time.monotonic()
    text(Dashboard(whole, 10.0, dashboard.hypervolume_history(whole, range(1000))))
    assert time.monotonic() - started < 20  # the limit is for a hang; a slow view is drawn less often


def test_the_view_is_drawn_at_most_twice_a_second(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(dashboard, "render", lambda shown: drawn.append(shown) or "")
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveView(half_done, 2, console) as progress:
        for _ in range(100):
            progress.tick()
    assert len(drawn) == 1


def test_a_pipe_gets_a_line_a_trial_that_ended(half_done: Study, epoch: Epoch) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(half_done, 2, console) as progress:
        half_done.stop(5, "stopped by the user")
        progress.update(5)
        progress.update(5)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert printed.count("t0005  stopped") == 1
    assert printed.count("\n") == 1


def test_brackets_in_a_reason_are_text(half_done: Study) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(half_done, 2, console) as progress:
        half_done.on_error(5, "error", "[/data/x.bin] and [enforce fail at alloc.cpp:117] err")
        progress.update(5)
    assert isinstance(console.file, io.StringIO)
    assert "[/data/x.bin] and [enforce fail at alloc.cpp:117] err" in console.file.getvalue()


def test_the_time_of_a_search_that_runs_counts_each_hour_once(half_done: Study, tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        held = json.loads((tmp_path / "driver.lock").read_text())
        began = (datetime.now() - timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S")
        (tmp_path / "driver.lock").write_text(json.dumps({**held, "since": began}))
        lock.update(tmp_path, 2, 1.0)
        half_done.optuna.set_user_attr("hours", 3.0)  # noted a moment ago
        assert status.snapshot(tmp_path).elapsed_s == pytest.approx(3 * 3600, abs=60)


def test_the_command_shows_a_study_and_refuses_what_is_none(
    half_done: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main([str(tmp_path)]) == 0
    assert "study small" in capsys.readouterr().out
    assert status.main([str(tmp_path / "nothing")]) == 2
    assert "no such study folder" in capsys.readouterr().err


def test_watching_a_study_that_nobody_runs_shows_it_once(half_done: Study, tmp_path: Path) -> None:
    assert status.main([str(tmp_path), "--watch"]) == 0


def test_looking_changes_nothing(half_done: Study, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".db-shm" and path.is_file()
        }

    before = content()
    status.snapshot(tmp_path)
    assert content() == before


def test_a_study_of_one_objective_has_no_plot() -> None:
    trial = TrialResult(0, "complete", {"step": 1}, epochs=({"epoch": 1, "accuracy": 90.0},))
    study = StudyResult("one", {"accuracy": "maximize"}, (), 1, trials=(trial,))
    assert list(dashboard.plot(Dashboard(study, 1.0))) == []
