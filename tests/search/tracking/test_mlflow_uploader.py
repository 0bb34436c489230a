"""MLflow unreachable, slow, failing or hanging: the search never waits, and missing data are delivered once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import results
from search.storage.database import open_storage
from search.storage.study import Study
from search.sync import deliver
from search.tracking import mlflow_uploader
from search.tracking.mlflow_uploader import MlflowUploader
from tests.support.mlflow_proxies import FaultyProxy, Mode, Server, logged_counts, serve
from trainers.epoch_metrics import EpochMetrics

TOO_LONG_S = 0.2
"""Limit of a hand-over on a busy machine; the server is unavailable for seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def front(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_uploader, "INTERVAL_S", 0.05)
    monkeypatch.setattr(mlflow_uploader, "RETRY_S", 0.1)
    monkeypatch.setattr(mlflow_uploader, "MAX_RETRY_S", 0.4)
    made = FaultyProxy(server.port)
    yield made
    made.close()


class Search:
    """A search of synthetic epochs that keeps an uploader busy, and measures each hand-over."""

    def __init__(self, study: Study, uri: str, epoch: Callable[..., EpochMetrics]) -> None:
        self.study = study
        self.uploader = MlflowUploader(uri, None, study.folder, study.result)
        self.epoch = epoch
        self.durations: list[float] = []
        self.messages: list[str] = []

    def trial(self, epochs: int = 9, pause_s: float = 0.02) -> None:
        """Runs one trial, or resumes one."""
        task = self.study.next_task()
        assert task is not None
        done = max(self.study.trials[task.number].epochs, default=0)
        for number in range(done + 1, done + epochs + 1):
            decision = self.study.on_result(
                task.number, self.epoch(number, 80.0 + task.number, 0.1, task.config["step"])
            )
            self.uploader.mark_changed()
            self.tick()
            time.sleep(pause_s)
            if decision == "stop":
                return

    def tick(self) -> None:
        started = time.monotonic()
        messages = self.uploader.tick()
        self.durations.append(time.monotonic() - started)
        if messages is not None:
            self.messages.append(messages)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Calls `tick` repeatedly, as the loop of a search does, until a condition holds."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            self.uploader.mark_changed()
            self.tick()
            time.sleep(0.02)

    def end(self) -> str | None:
        return self.uploader.finish("FINISHED", 60)


@pytest.fixture
def search(open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics]) -> Callable[..., Search]:
    def start(uri: str) -> Search:
        return Search(open_study("budget.trials=3", "scheduler={name: none}"), uri, epoch)

    return start


def check_all_is_there_once(study: Study, uri: str, store: Path) -> None:
    found = study.result()
    runs, metrics = logged_counts(store, found.attrs["id"])
    assert runs == {str(trial.number): 1 for trial in found.trials}
    epochs = {(str(trial.number), step) for trial in found.trials for step in range(1, trial.num_epochs + 1)}
    assert {(trial, step) for trial, _, step in metrics} == epochs
    assert set(metrics.values()) == {1}
    assert results.load(study.folder) == results.load(tracking_uri=uri, experiment=found.name)


def test_a_store_unreachable_from_the_start_blocks_nothing_is_reported_once_and_sync_delivers(
    front: FaultyProxy, server: Server, search: Callable[[str], Search]
) -> None:
    front.stop()
    running = search(front.uri)
    for _ in range(3):
        running.trial()
    running.wait_for(lambda: bool(running.messages))
    started = time.monotonic()
    missing = running.end()
    assert time.monotonic() - started < mlflow_uploader.FAILED_TIMEOUT_S + 1
    assert max(running.durations) < TOO_LONG_S
    assert len(running.messages) == 1
    assert "Connection refused" in running.messages[0]
    assert missing is not None
    assert missing.endswith(f"the next start delivers what is missing, or python -m search.sync {running.study.folder}")
    front.start()
    assert deliver(running.study.folder, front.uri) == f"{front.uri}: 3 runs and 27 epochs delivered"
    assert deliver(running.study.folder, front.uri) == f"{front.uri}: nothing was missing"
    check_all_is_there_once(running.study, front.uri, server.store)


def test_a_search_that_ends_before_its_store_was_to_be_opened_is_delivered_at_its_end(
    search: Callable[[str], Search], tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    running = search("http://127.0.0.1:9")
    running.uploader.stop()
    running.uploader = MlflowUploader(
        uri, tmp_path / "artifacts", running.study.folder, running.study.result, start_delay_s=600
    )
    running.trial()
    assert not (tmp_path / "mlflow.db").exists()
    assert running.end() is None
    check_all_is_there_once(running.study, uri, tmp_path / "mlflow.db")


@pytest.mark.parametrize("after", [13, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 4, 7, 9, 14, 16))])
def test_a_server_that_dies_midway_and_comes_back_gets_the_rest(
    after: int, front: FaultyProxy, server: Server, search: Callable[[str], Search]
) -> None:
    front.dies_after = after
    running = search(front.uri)
    running.trial()
    running.wait_for(lambda: running.uploader.problem is not None)
    front.start()
    running.trial()
    running.wait_for(lambda: running.uploader.problem is None)
    running.trial()
    assert running.end() is None
    assert len(running.messages) == 1
    check_all_is_there_once(running.study, front.uri, server.store)


@pytest.mark.parametrize("mode", ["hung", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("error", "slow"))])
def test_a_failing_server_does_not_block_the_search_and_gets_all_data_in_the_end(
    mode: Mode, front: FaultyProxy, server: Server, search: Callable[[str], Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2" if mode == "hung" else "10")
    front.mode = mode
    running = search(front.uri)
    running.trial()
    if mode != "slow":
        running.wait_for(lambda: bool(running.messages))
    front.mode = "well"
    running.trial()
    running.wait_for(lambda: running.uploader.problem is None)
    running.trial()
    assert running.end() is None
    assert max(running.durations) < TOO_LONG_S
    check_all_is_there_once(running.study, front.uri, server.store)


@pytest.mark.slow
def test_calls_that_a_server_finished_after_the_timeout_are_not_doubled(
    front: FaultyProxy, server: Server, search: Callable[[str], Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    front.mode, front.pause_s = "late", 1.5
    running = search(front.uri)
    running.trial()
    running.wait_for(lambda: front.calls > 5)
    front.mode = "well"
    running.trial()
    running.wait_for(lambda: running.uploader.problem is None)
    running.trial()
    assert running.end() is None
    check_all_is_there_once(running.study, front.uri, server.store)


def test_the_end_of_a_search_waits_only_briefly_for_a_hanging_server(
    front: FaultyProxy, search: Callable[[str], Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    front.mode = "hung"
    running = search(front.uri)
    running.trial()
    started = time.monotonic()
    missing = running.uploader.finish("KILLED", 1)
    assert time.monotonic() - started < 2
    assert missing is not None
    assert "did not accept everything in time. Nothing is lost" in missing


def test_the_next_start_delivers_what_was_missing(
    front: FaultyProxy,
    server: Server,
    search: Callable[[str], Search],
) -> None:
    front.dies_after = 20
    first = search(front.uri)
    first.trial()
    first.trial(epochs=4)
    assert first.uploader.finish("KILLED", 3) is not None
    first.study.close()
    front.start()
    second = search(front.uri)
    second.trial()
    second.trial()
    assert second.end() is None
    check_all_is_there_once(second.study, front.uri, server.store)


def test_a_locked_store_is_written_when_it_is_free_again(
    front: FaultyProxy, store: Path, search: Callable[[str], Search]
) -> None:
    other = sqlite3.connect(store)
    other.execute("begin exclusive")
    running = search(f"sqlite:///{store}")
    running.trial()
    running.wait_for(lambda: bool(running.messages))
    assert "database is locked" in running.messages[0]
    other.close()
    running.trial()
    running.wait_for(lambda: running.uploader.problem is None)
    assert running.end() is None
    check_all_is_there_once(running.study, f"sqlite:///{store}", store)


def test_a_read_only_store_is_reported(
    front: FaultyProxy, store: Path, search: Callable[[str], Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow makes a folder `file:` where it runs
    running = search(f"sqlite:///file:{store}?mode=ro&uri=true")
    running.trial()
    running.wait_for(lambda: bool(running.messages))
    assert "attempt to write a readonly database" in running.messages[0]
    assert running.end() is not None


def test_two_studies_of_one_name_do_not_mix(
    front: FaultyProxy,
    store: Path,
    tmp_path: Path,
    read_space: Callable[..., object],
    epoch: Callable[..., EpochMetrics],
) -> None:
    uri = f"sqlite:///{store}"
    for count in (1, 2):
        folder = tmp_path / f"user{count}"
        folder.mkdir()
        study = Study(read_space("budget.trials=3", "scheduler={name: none}"), folder, open_storage(folder))  # type: ignore[arg-type]
        running = Search(study, uri, epoch)
        for _ in range(count):
            running.trial()
        assert running.end() is None
        check_all_is_there_once(study, uri, store)
        study.close()
