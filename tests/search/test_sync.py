"""`search.sync`: missing data are delivered to MLflow for any end of the search or of an earlier delivery."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import results
from results.metrics import ResultsError
from search import sync
from search.space.space import Space
from search.storage import lock
from search.storage.database import open_storage
from search.storage.study import Study
from search.tracking import mlflow_mirror
from tests.support.mlflow_proxies import logged_counts
from trainers.epoch_metrics import EpochMetrics

ROOT = Path(__file__).parents[2]
WRITING = ("create_experiment", "create_run", "update_run", "log_batch", "log_inputs", "log_text", "log_artifact",
           "set_tag", "delete_tag", "delete_run", "set_terminated")  # fmt: skip


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, read_space: Callable[..., Space], epoch: Callable[..., EpochMetrics]
) -> Path:
    """A killed study: one trial complete, one stopped, one failed, one in its fourth epoch, one without an epoch."""
    folder = tmp_path_factory.mktemp("made") / "small"
    folder.mkdir()
    study = Study(read_space("budget.trials=5", "scheduler={name: none}"), folder, open_storage(folder))
    for number, epochs in enumerate((9, 3, 2, 4, 0)):
        task = study.next_task()
        assert task is not None
        for i in range(1, epochs + 1):
            study.on_result(number, epoch(i, 90.0 - 5 * number, 0.1 + 0.1 * number, task.config["step"]))
        if number == 1:
            study.stop(number, "stopped by the user")
        elif number == 2:
            study.on_error(number, "diverged", "the loss is not finite")
    study.close()
    assert [trial.state for trial in study.result().trials] == ["complete", "stopped", "failed", "running", "running"]
    return folder


@pytest.fixture
def folder(made: Path, store: Path) -> Path:
    """A copy of that study beside a separate store."""
    found = Path(shutil.copytree(made, store.parent / "small"))
    with closing(sqlite3.connect(found / "study.db")) as database:
        database.execute("pragma journal_mode = delete")  # all in one file, which can be truncated anywhere
    return found


def check_complete_without_duplicates(folder: Path, store: Path) -> None:
    found = results.load(folder)
    runs, metrics = logged_counts(store, found.attrs["id"])
    assert runs == {str(trial.number): 1 for trial in found.trials}
    assert set(metrics.values()) == {1}
    assert results.load(tracking_uri=f"sqlite:///{store}", experiment="small") == found


def test_a_killed_study_is_delivered_completely_and_once(
    folder: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"sqlite:///{store}: 5 runs and 18 epochs delivered\n"
    check_complete_without_duplicates(folder, store)
    assert sync.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"sqlite:///{store}: nothing was missing\n"
    check_complete_without_duplicates(folder, store)


def test_runs_have_the_times_of_the_trainings(folder: Path, store: Path) -> None:
    assert sync.main([str(folder)]) == 0
    client = mlflow_mirror.connect(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.trial = '0'")
    trial = results.load(folder).trial(0)
    assert trial.started is not None
    assert run.info.start_time == round(1000 * trial.started)
    assert run.info.end_time == round(1000 * trial.times[-1])
    history = client.get_metric_history(run.info.run_id, "accuracy")
    assert [metric.timestamp for metric in history] == [round(1000 * at) for at in trial.times]


def test_a_running_search_is_left_to_its_driver(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock.hold(folder):
        assert sync.main([str(folder)]) == 5
    assert "delivers to MLflow by itself" in capsys.readouterr().err


def test_a_missing_study_or_store_is_reported_in_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync.main([str(tmp_path / "none")]) == 2
    assert sync.main([str(folder), "--tracking-uri", "http://127.0.0.1:9"]) == 4
    error = capsys.readouterr().err
    assert "Connection refused. Nothing is lost; the same command resumes the delivery" in error
    assert sync.main([str(folder), "--tracking-uri", "postgresql+nothing://127.0.0.1/x"]) in (2, 4)
    assert "Traceback" not in capsys.readouterr().err


class _CutError(Exception):
    """The process ends here."""


class Cutting:
    """An MLflow client that raises at its n-th writing call, before or after the call takes effect."""

    def __init__(self, client: Any, at: int, is_done: bool) -> None:
        self.client, self.at, self.is_done = client, at, is_done
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        return (lambda *words, **named: self._call(name, found, words, named)) if name in WRITING else found

    def _call(self, name: str, found: Callable[..., Any], words: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.calls.append(name)
        if len(self.calls) != self.at:
            return found(*words, **named)
        if self.is_done:
            found(*words, **named)
        raise _CutError


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int, bool], list[str]]:
    """Delivers until the n-th call, and returns the calls so far."""
    connect = mlflow_mirror.connect

    def deliver(folder: Path, at: int, is_done: bool) -> list[str]:
        clients: list[Cutting] = []

        def cutting(uri: str) -> Cutting:
            clients.append(Cutting(connect(uri), at, is_done))
            return clients[-1]

        monkeypatch.setattr(mlflow_mirror, "connect", cutting)
        try:
            sync.deliver(folder, None)
        except _CutError:
            pass
        finally:
            monkeypatch.setattr(mlflow_mirror, "connect", connect)
        return clients[0].calls

    return deliver


@pytest.mark.parametrize("is_done", [False, True])
def test_a_delivery_interrupted_many_times_is_complete_without_duplicates(
    is_done: bool, folder: Path, store: Path, cut: Callable[[Path, int, bool], list[str]]
) -> None:
    for attempt in itertools.count(1):
        if len(cut(folder, 3 * attempt, is_done)) < 3 * attempt:
            break
    assert attempt > 5
    check_complete_without_duplicates(folder, store)


@pytest.mark.slow
def test_a_delivery_interrupted_after_any_call_is_completed_by_the_next(
    made: Path, empty_store: Path, tmp_path: Path, cut: Callable[[Path, int, bool], list[str]]
) -> None:
    for at in itertools.count(1):
        out = tmp_path / str(at)
        out.mkdir()
        folder, store = Path(shutil.copytree(made, out / "small")), Path(shutil.copy(empty_store, out))
        calls = cut(folder, at, True)
        sync.deliver(folder, None)
        check_complete_without_duplicates(folder, store)
        shutil.rmtree(out)
        if len(calls) < at:
            break
    assert at > 30


def _sync(folder: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "search.sync", str(folder)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip


@pytest.mark.slow
def test_a_delivery_killed_at_any_moment_is_completed_by_the_next(
    made: Path, empty_store: Path, tmp_path: Path
) -> None:
    took = None
    for moment in range(9):
        out = tmp_path / str(moment)
        out.mkdir()
        folder, store = Path(shutil.copytree(made, out / "small")), Path(shutil.copy(empty_store, out))
        process = _sync(folder)
        started = time.monotonic()
        try:
            process.communicate(timeout=None if took is None else took * (0.6 + 0.05 * moment))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        took = took or time.monotonic() - started
        sync.deliver(folder, None)
        check_complete_without_duplicates(folder, store)


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_delivery_completed_later(folder: Path, store: Path) -> None:
    size = store.stat().st_size + 8192

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = _sync(folder, preexec_fn=limit)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 4, error
    assert "Traceback" not in error
    assert "Nothing is lost" in error
    sync.deliver(folder, None)
    check_complete_without_duplicates(folder, store)


def test_a_study_killed_in_the_middle_of_a_write_is_read_and_delivered(folder: Path, store: Path) -> None:
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('pragma cache_size=1'); c.execute('begin');"
        "c.execute('create table t as select * from trial_user_attributes');"
        "c.execute('update trial_user_attributes set value_json = value_json || 1'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "study.db")], check=False)
    assert os.path.getsize(folder / "study.db-journal") > 0
    assert sync.main([str(folder)]) == 0
    check_complete_without_duplicates(folder, store)


@pytest.mark.slow
def test_every_prefix_of_a_database_is_read_or_reported_in_one_sentence(folder: Path) -> None:
    path = folder / "study.db"
    whole, content = results.load(folder), path.read_bytes()
    pages = range(4096, len(content), 4096)
    lengths = {*range(256), *(page + i for page in pages for i in (-1, 0, 1)), *range(0, len(content), 997)}
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with suppress(ResultsError):
            assert results.load(folder) == whole


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_database_is_reported_in_one_sentence(
    share: float, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "study.db"
    os.truncate(path, int(share * path.stat().st_size))
    assert sync.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert "Traceback" not in error


def test_a_paused_trial_is_shown_as_paused_and_continues_in_its_run(folder: Path, store: Path) -> None:
    uri, found = f"sqlite:///{store}", results.load(folder)
    for state in ("paused", "running"):
        trials = tuple(replace(trial, state=state) if trial.number == 3 else trial for trial in found.trials)
        study = replace(found, trials=trials)
        mlflow_mirror.MlflowMirror.open(uri, study, None).finish(study, folder, "KILLED")
        assert results.load(tracking_uri=uri, experiment="small") == study.interrupted()


def test_no_run_of_an_interrupted_search_runs_until_it_resumes(folder: Path, store: Path) -> None:
    uri, found = f"sqlite:///{store}", results.load(folder)
    assert [trial.state for trial in found.trials] == ["complete", "stopped", "failed", "paused", "paused"]
    mlflow_mirror.MlflowMirror.open(uri, found, None).finish(found, folder, "KILLED")
    assert run_statuses(uri) == ["FAILED", "FINISHED", "FINISHED", "KILLED", "SCHEDULED", "SCHEDULED"]
    mlflow_mirror.MlflowMirror.open(uri, found, None)
    assert run_statuses(uri) == ["FAILED", "FINISHED", "FINISHED", "RUNNING", "RUNNING", "RUNNING"]


def run_statuses(uri: str) -> list[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return sorted(run.info.status for run in client.search_runs([experiment.experiment_id]))
