"""The view of a search: content, 80 columns, speed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import results
from results.analysis.front import hypervolume
from results.metrics import format_params
from results.study import StudyResult, TrialResult
from search import status
from search.display import dashboard
from search.display.dashboard import Dashboard
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


def test_the_view_shows_states_extremes_budget_and_failures(half_done: Study, tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        shown = status.snapshot(tmp_path)
    shown_text = text(replace(shown, slots=2))
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
        assert expected in shown_text
    assert "in line 3" not in shown_text


def test_the_lowest_spike_rate_is_that_of_the_front_not_of_a_stopped_trial(half_done: Study) -> None:
    result = half_done.result()
    last = ({"epoch": 1, "accuracy": 25.0, "spike_rate": 1e-5},)
    idle = replace(result.select("stopped")[0], epochs=last, read_outs=())
    result = replace(result, trials=tuple(idle if t.number == idle.number else t for t in result.trials))
    found = dict(dashboard.rows(Dashboard(result, 1.0)))
    lowest = min(result.front(), key=lambda point: point.metrics["spike_rate"])
    assert found["lowest spike rate"] == f"{lowest.metrics['spike_rate']:.4g} ({lowest.key})"
    none = replace(result, trials=(idle,))
    assert dict(dashboard.rows(Dashboard(none, 1.0)))["lowest spike rate"] == f"1e-05 ({idle.key} after 1 epoch)"


def test_the_hypervolume_has_its_unit(half_done: Study, tmp_path: Path) -> None:
    shown = status.snapshot(tmp_path)
    assert f"{shown.hypervolumes[-1]:.4g} % \u00d7 spikes/neuron/step" in text(shown)


def test_the_view_fits_eighty_columns_and_a_screen(half_done: Study, tmp_path: Path) -> None:
    lines = text(status.snapshot(tmp_path)).rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24


def test_a_long_failure_reason_is_cut_and_leaves_the_names_whole(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    task = study.next_task()
    assert task is not None
    study.on_error(task.number, "error", "long " * 50)
    shown_text = text(status.snapshot(tmp_path))
    assert "lowest spike rate" in shown_text
    assert any(line.startswith("1 x error") and line.rstrip().endswith("\u2026") for line in shown_text.splitlines())


def test_the_hypervolume_history_ends_at_the_hypervolume_of_the_study(half_done: Study, tmp_path: Path) -> None:
    volumes = status.snapshot(tmp_path).hypervolumes
    assert list(volumes) == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolume(results.load(tmp_path)))


def test_a_study_without_a_point_can_be_shown(open_study: Open, tmp_path: Path) -> None:
    open_study()
    assert "0 of 12" in text(status.snapshot(tmp_path))


def test_a_view_of_a_thousand_trials_renders_in_seconds(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert time.monotonic() - started < 20  # against a hang: a slow view is refreshed less often


def test_a_study_of_one_objective_has_no_plot() -> None:
    trial = TrialResult(0, "complete", {"step": 1}, epochs=({"epoch": 1, "accuracy": 90.0},))
    study = StudyResult("one", {"accuracy": "maximize"}, (), 1, trials=(trial,))
    assert list(dashboard.plot(Dashboard(study, 1.0))) == []


def test_constraints_that_no_trial_meets_are_shown_with_the_nearest_trial(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    study = open_study("scheduler={name: none}", "constraints={accuracy: {min: 95}}", "space.step={choice: [1]}")
    for number, accuracy in enumerate([60.0, 90.0]):
        assert study.next_task() is not None
        for i in range(1, 10):
            study.on_result(number, epoch(i, accuracy, 0.1))
    shown = text(status.snapshot(tmp_path))
    assert "none of 2 full trainings meets the constraints" in shown
    assert "t0001 read at step 1: accuracy 90.00 % (must be >= 95)" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_space_smaller_than_the_budget_is_shown_and_no_time_is_left_at_its_end(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    study = open_study("scheduler={name: none}", "space={tau: {choice: [1.5, 2.0]}, step: {choice: [1]}}")
    assert "2 configs, so no more of the 12 trials run" in text(status.snapshot(tmp_path))
    while (task := study.next_task()) is not None:
        for i in range(1, 10):
            study.on_result(task.number, epoch(i, 90.0, 0.1))
    assert "no trials remain" in text(status.snapshot(tmp_path))


def test_a_search_that_has_ended_has_no_trials_left_but_those_that_wait(half_done: Study) -> None:
    result = half_done.result()
    ended = replace(result, attrs={**result.attrs, "ended": result.attrs["space"]["budget"], "waiting": [2, 5]})
    paused = replace(ended, trials=tuple(replace(t, state="paused") if t.number == 2 else t for t in result.trials))
    left = 9 - paused.trial(2).num_epochs + 9 - paused.trial(5).num_epochs  # t0005 runs
    shown = Dashboard(paused, 21.0)
    assert dict(dashboard.rows(shown))["time"] == f"0:21 so far, at most {dashboard.clock(left)} left"
    assert dict(dashboard.rows(replace(shown, result=paused.interrupted())))["time"] == "0:21 so far, no trials remain"
    assert dashboard.waiting_trials(paused, "RUN --finish") == (
        f"1 trial of the first fronts waits: RUN --finish trains it (at most {9 - paused.trial(2).num_epochs} epochs)"
    )
    both = dashboard.waiting_trials(paused.interrupted(), "RUN --finish")
    assert both == f"2 trials of the first fronts wait: RUN --finish trains them (at most {left} epochs)"
    assert dashboard.waiting_trials(result, "RUN --finish") is None


def test_running_trials_are_shown_with_epoch_batch_and_config(half_done: Study) -> None:
    shown = Dashboard(half_done.result(), 21.0, batches={5: (1, 50, 200)})
    params = format_params(shown.result.trial(5).params)
    assert dict(dashboard.rows(shown))["t0005"] == f"epoch 1/9, batch 50/200  {params}"
    of_another_epoch = replace(shown, batches={5: (2, 50, 200)})
    assert dict(dashboard.rows(of_another_epoch))["t0005"] == f"epoch 1/9  {params}"
    assert "t0005" not in dict(dashboard.rows(replace(shown, driver=dashboard.NO_DRIVER)))


def test_further_running_trials_are_counted(half_done: Study) -> None:
    result = half_done.result()
    running = tuple(replace(result.trial(5), number=number) for number in range(6, 13))
    rows = list(dashboard.rows(Dashboard(replace(result, trials=(*result.trials, *running)), 21.0)))
    assert [name for name, _ in rows if name in ("t0005", "t0006", "t0007", "t0008")] == ["t0005", "t0006", "t0007"]
    assert ("", "and 5 more") in rows


def test_the_time_left_follows_the_epochs_that_are_planned(half_done: Study) -> None:
    result = half_done.result()

    def timed(trial: TrialResult) -> TrialResult:
        return replace(trial, started=0.0, times=tuple(10.0 * float(epoch["epoch"]) for epoch in trial.epochs))

    result = replace(result, trials=tuple(timed(trial) for trial in result.trials if trial.state != "failed"))
    first = Dashboard(result, 210.0, slots=1, batches={5: (1, 100, 200)}, now=10.0)
    left_s = dashboard.seconds_left(first)
    assert left_s is not None
    assert 500 < left_s < 1100  # eight more trials of at most 9 epochs, of 10 to 20 s each
    later = dashboard.seconds_left(replace(first, now=1000.0, elapsed_s=2000.0))
    assert later is not None
    assert later > left_s  # half of a first epoch took 1000 s


def test_a_trial_within_its_epoch_counts_in_part(half_done: Study) -> None:
    trial = replace(half_done.result().trial(0), state="running", started=0.0, times=tuple(range(2, 20, 2)))
    shown = Dashboard(half_done.result(), 100.0, batches={0: (10, 1, 4)})
    progress = dashboard.trial_progress(shown, trial)
    assert (progress.epochs, progress.seconds) == (9.25, pytest.approx(18.5))
