"""The end of a search."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from results.export import main as export
from search.display import summary
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def finished(study: Study, epoch: Epoch, accuracy: float = 90.0) -> Study:
    """Runs a study to its end, each trial to full fidelity."""
    while (task := study.next_task()) is not None:
        for number in range(1, 10):
            study.on_result(task.number, epoch(number, accuracy + task.number / 10, 0.1 + task.number / 100))
    return study


FINITE = ("space={tau: {choice: [1.5, 2.0]}, step: {choice: [1, 2]}}", "budget.trials=10", "scheduler.name=none")


def test_a_finite_space_smaller_than_the_budget_is_announced_and_explained(open_study: Open, epoch: Epoch) -> None:
    study = open_study(*FINITE)
    assert summary.small_space(study.space) == "the space has 4 configs, so at most 4 of 10 trials run"
    finished(study, epoch)
    assert summary.unused_trials(study) == "4 of 10 trials: all 4 configs of the space have been tried"


def test_refused_configs_of_a_finite_space_are_counted(open_study: Open, epoch: Epoch) -> None:
    keys = "space={embed_dim: {choice: [16, 24]}, num_heads: {choice: [2, 16]}}"
    study = finished(open_study("fixed={distort: false}", keys, "budget.trials=10", "scheduler.name=none"), epoch)
    expected = "3 of 10 trials: all 4 configs of the space have been tried, 1 of which were refused"
    assert summary.unused_trials(study) == expected


def test_a_budget_in_epochs_that_ends_before_the_trials_is_the_reason(open_study: Open, epoch: Epoch) -> None:
    study = finished(open_study("budget={trials: 10, epochs: 9, epochs_total: 30}", "scheduler.name=none"), epoch)
    assert summary.unused_trials(study) == "3 of 10 trials: the budget of 30 epochs does not cover more"
    assert summary.small_space(study.space) is None


def test_a_search_that_used_its_budget_needs_no_reason(open_study: Open, epoch: Epoch) -> None:
    study = finished(open_study("budget.trials=2", "scheduler.name=none"), epoch)
    assert summary.unused_trials(study) is None


def test_the_reason_of_an_empty_front_is_the_message_of_the_search(open_study: Open, epoch: Epoch) -> None:
    study = finished(open_study("budget.trials=2", "scheduler.name=none", "constraints={accuracy: {min: 95}}"), epoch)
    text = summary.no_success(study.result())
    assert text.startswith(
        "no trial succeeded: none of 2 full trainings meets the constraints. The nearest is t0001 read"
    )
    assert text.endswith("accuracy 90.10 % (must be >= 95)")


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("sqlite:////a b/mlflow.db", "mlflow ui --host 127.0.0.1 --backend-store-uri 'sqlite:////a b/mlflow.db'"),
        ("postgresql://me@db/mlflow", "mlflow ui --host 127.0.0.1 --backend-store-uri postgresql://me@db/mlflow"),
        ("http://mlflow.example.org:5000", "open http://mlflow.example.org:5000 in a browser: experiment small"),
        ("https://me:pw@mlflow.example.org", "open https://mlflow.example.org in a browser: experiment small"),
        ("databricks://profile", None),
    ],
)
def test_the_advice_opens_mlflow_where_the_study_is(open_study: Open, uri: str, line: str | None) -> None:
    study = open_study()
    assert summary.next_steps(study.result(), study.folder, uri) == ([] if line is None else [line])


def test_the_commands_of_two_studies_of_one_data_set_write_different_files(
    open_study: Open, epoch: Epoch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second study [1]"):
        study = finished(open_study("budget.trials=1", "scheduler.name=none", folder=tmp_path / name), epoch)
        export_line, train_line = summary.next_steps(study.result(), study.folder, "databricks")
        assert export(words(export_line, "results.export")) == 0
        (path,) = words(train_line, "trainers.run")[1:]
        assert Path(path).is_file()
        assert Path(path).is_relative_to(tmp_path / name)
    assert "exists" not in capsys.readouterr().err


def words(command: str, module: str) -> list[str]:
    """Returns the arguments of a command."""
    found = shlex.split(command)
    assert found[:3] == ["python", "-m", module]
    return found[3:]


def test_a_search_stopped_by_failures_shows_the_first_traceback_the_config_and_the_log(
    open_study: Callable[..., Study],
) -> None:
    study = open_study()
    for number in range(5):
        assert study.next_task() is not None
        study.on_error(number, "error", 'KeyError: x\n  File "own.py", line 3, in forward')
    text = summary.repeated_failures(study)
    assert 't0000: error: KeyError: x\n  File "own.py", line 3, in forward\n' in text
    assert all(f" {key}=" in text for key in study.result().trials[0].params)
    assert str(study.folder / "events.jsonl") in text


def test_a_search_that_was_finished_before_its_end_continues_later(open_study: Open, epoch: Epoch) -> None:
    study = open_study("budget.trials=5", "scheduler.name=none")
    task = study.next_task()
    assert task is not None
    study.finish_front()
    for number in range(1, 10):
        study.on_result(0, epoch(number, 90.0, 0.1))
    assert study.is_finished()
    assert summary.unused_trials(study) == "1 of 5 trials: the search goes on without --finish"


def test_the_summary_counts_the_trials_that_wait_and_how_to_train_them(
    open_study: Open, epoch: Epoch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 12}")
    assert [study.next_task() is not None for _ in range(3)] == [True] * 3
    for number in range(3):
        study.scheduler.commit(number, epoch(1, 60.0 + number, 0.1 + number), "pause")
        study._database.save_epoch(number, epoch(1, 60.0 + number, 0.1 + number), "pause")
    study.finish()
    summary.print_summary(study, "databricks", None, "RUN --finish")
    printed = capsys.readouterr().out
    assert "3 trials: 3 paused; 3 epochs trained" in printed
    assert "3 trials of the first fronts wait: RUN --finish trains them (at most 24 epochs)" in printed
