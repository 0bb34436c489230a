"""Confirmation of a front: fresh seeds, a race, and one evaluation on the test set."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import results
from results.picks import pick
from search import confirm, run, sync
from search.execution import cluster, ray_tasks
from search.messages import Failure, WorkerTask
from search.storage import lock
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

DELIVER = sync.deliver
Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def train_all(study: Study, epoch: Epoch, ends: Iterable[tuple[float, float]], folder: Path) -> None:
    """Trains a trial in full for each pair of accuracy and spike rate, and closes the study."""
    for accuracy, rate in ends:
        task = study.next_task()
        assert task is not None
        for number in range(1, 10):
            study.on_result(task.number, epoch(number, accuracy, rate))
    (folder / "space.yml").write_text(study.space.yaml())
    study.close()


@pytest.fixture
def finished(open_study: Open, epoch: Epoch, tmp_path: Path) -> Path:
    """A study of four full trials: three on the front, of which the second was lucky, and one off the front."""
    study = open_study("scheduler.name=none", "budget.trials=4", "space.step={choice: [1]}")
    train_all(study, epoch, ((95.0, 0.3), (93.0, 0.2), (80.0, 0.1), (70.0, 0.25)), tmp_path)
    return tmp_path


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """Replaces Ray's trainings by synthetic ones; returns the requests, as (trial, seed, purpose)."""
    requested: list[tuple[int, int, str]] = []
    truth = {0: (95.0, 0.3), 1: (60.0, 0.35), 2: (80.0, 0.1)}

    def train(task: WorkerTask, purpose: str) -> list[list[dict[str, float]]]:
        found = []
        for trial in task.trials:
            seed = trial.config["seed"]
            requested.append((trial.number, seed, purpose))
            accuracy, rate = truth[trial.number]
            noise = 0.1 * (seed % 3)
            read_out = {"accuracy": accuracy + noise, "spike_rate": rate + noise / 1000, "params_m": 0.01}
            found.append([{"read_step": 1, **read_out}])
        return found

    def run_all(function: Any, tasks: Sequence[WorkerTask], *others: Any) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            if function is ray_tasks.evaluate_test:
                yield position, train(task, "test")[0]
            else:
                yield position, train(task, "train")

    monkeypatch.setattr(ray_tasks, "run_all", run_all)
    monkeypatch.setattr(sync, "deliver", lambda folder, uri: "delivered")  # takes seconds; tests of its own
    here = cluster.Cluster((cluster.Node("a", "a", 2, 0),))
    monkeypatch.setattr(cluster, "start", lambda address, insecure, imports: here)
    return requested


def test_clear_losers_drop_out_after_two_seeds_and_the_test_set_is_read_for_the_rest(
    finished: Path, no_ray: list[tuple[int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert confirm.main([str(finished), "--seeds", "4", "--test"]) == 0
    trained = [(t, s) for t, s, purpose in no_ray if purpose == "train"]
    assert [t for t, _ in trained].count(0) == [t for t, _ in trained].count(2) == 4
    assert [t for t, _ in trained].count(1) == 2
    assert {t for t, _, purpose in no_ray if purpose == "test"} == {0, 2}
    printed = capsys.readouterr().out
    assert re.search(r"t0000 T=1\s+4\s+95\S* % ± 0\S*", printed)
    assert re.search(r"on front +test accuracy", printed)
    assert re.search(r"t0000 T=1 .* 100%\s+95\.\S+ ± 0\.\S+\n", printed)


def test_without_the_option_the_test_set_is_not_read_and_no_figure_of_it_is_shown(
    finished: Path, no_ray: list[tuple[int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert confirm.main([str(finished), "--seeds", "2"]) == 0
    assert {purpose for _, _, purpose in no_ray} == {"train"}
    assert "test accuracy" not in capsys.readouterr().out
    assert "tested" not in results.load(finished).attrs


def test_the_means_give_the_front_the_knee_the_table_and_the_files(finished: Path, no_ray: Any) -> None:
    before = results.load(finished)
    assert [point.trial for point in before.front()] == [0, 1, 2]
    assert confirm.main([str(finished), "--seeds", "2", "--test"]) == 0
    study = results.load(finished)
    assert [(point.trial, point.seeds) for point in study.front()] == [(0, 2), (2, 2)]
    (knee,) = pick(study, "knee")
    assert knee.metrics["accuracy"] != before.trial(knee.trial).metrics["accuracy"]
    assert knee.test["accuracy"].seeds == 2
    lines = (finished / "front.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["trial", "0", "2"]
    assert "test_accuracy" in lines[0]
    assert "test accuracy" in (finished / "report.html").read_text()


def test_a_point_that_breaks_a_constraint_with_fresh_seeds_is_off_the_front(
    open_study: Open, epoch: Epoch, no_ray: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("constraints={accuracy: {min: 92}}", "budget.trials=3", "scheduler.name=none", "space.step={choice: [1]}")
    study = open_study(*limits)
    train_all(study, epoch, ((95.0, 0.3), (93.0, 0.2), (92.5, 0.1)), tmp_path)
    assert confirm.main([str(tmp_path), "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"t0002 T=1 .* 0%   accuracy 80.\S+ % \(must be >= 92\)", printed)
    assert [point.trial for point in results.load(tmp_path).front()] == [0]


@pytest.mark.parametrize(("failure_class", "code"), [("environment", 4), ("diverged", 0), ("killed", 0)])
def test_a_failure_of_the_machine_ends_the_confirmation_and_one_of_a_config_does_not(
    finished: Path,
    no_ray: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure_class: Any,
    code: int,
) -> None:
    def failing(function: Any, tasks: Sequence[WorkerTask], *others: Any) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            failure = Failure(failure_class, "it said so")
            yield position, failure if failure_class == "killed" else [failure for _ in task.trials]

    monkeypatch.setattr(ray_tasks, "run_all", failing)
    assert confirm.main([str(finished), "--test"]) == code
    output = capsys.readouterr()
    assert "it said so" in output.out + output.err
    study = results.load(finished)
    assert study.attrs.get("tested") is None
    if not code:
        assert "the test set is not read" in output.out
    assert [point.trial for point in study.front()] == ([] if failure_class == "diverged" else [0, 1, 2])


def test_fresh_seeds_are_equal_for_all_candidates_and_new_to_the_search(
    finished: Path, no_ray: list[tuple[int, int, str]]
) -> None:
    confirm.main([str(finished), "--seeds", "2"])
    seeds = [{s for t, s, purpose in no_ray if t == trial and purpose == "train"} for trial in (0, 1, 2)]
    assert seeds[0] == seeds[1] == seeds[2]
    own = int(results.load(finished).trial(0).config["seed"])
    assert own not in seeds[0]


def test_a_second_call_trains_only_missing_seeds_and_does_not_read_the_test_set(
    finished: Path, no_ray: list[tuple[int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    confirm.main([str(finished), "--seeds", "2", "--test"])
    no_ray.clear()
    assert confirm.main([str(finished), "--seeds", "3", "--test"]) == 0
    assert [(t, purpose) for t, _, purpose in no_ray] == [(0, "train"), (2, "train")]
    assert "read for this study before" in capsys.readouterr().out


def test_the_spread_is_in_the_study_and_in_the_report(finished: Path, no_ray: Any) -> None:
    confirm.main([str(finished), "--seeds", "3"])
    study = results.load(finished)
    spread = study.point(0).spreads["accuracy"]
    assert spread.seeds == 3
    assert 0 < spread.deviation < 0.2
    assert "tested" not in study.attrs
    assert (finished / "report.html").exists()


def test_mlflow_holds_the_same_confirmation(finished: Path, no_ray: Any, empty_store: Path) -> None:
    assert confirm.main([str(finished), "--seeds", "2", "--test"]) == 0
    uri = f"sqlite:///{shutil.copy(empty_store, finished / 'copy.db')}"
    DELIVER(finished, uri)
    study, mirrored = results.load(finished), results.load(tracking_uri=uri, experiment="small")
    assert mirrored == study
    assert [(point.trial, point.seeds, point.test) for point in mirrored.front()] == [
        (point.trial, point.seeds, point.test) for point in study.front()
    ]


def test_mlflow_is_written_while_the_study_is_locked(
    finished: Path, no_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[Any] = []
    monkeypatch.setattr(sync, "deliver", lambda folder, uri: holders.append(lock.holder(folder)))
    assert confirm.main([str(finished), "--seeds", "1"]) == 0
    assert [holder.pid for holder in holders] == [os.getpid()]


def test_a_study_without_a_front_has_nothing_to_confirm(
    open_study: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study()
    (tmp_path / "space.yml").write_text(study.space.yaml())
    assert confirm.main([str(tmp_path)]) == 3
    assert "the front is empty" in capsys.readouterr().err


def test_invalid_arguments_are_reported_in_one_sentence(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confirm.main([str(finished), "--seeds", "0"]) == 2
    assert "--seeds: must be from 1 to 100 (got 0)" in capsys.readouterr().err
    assert confirm.main([str(tmp_path / "nothing")]) == 2
    with pytest.raises(SystemExit, match="2"):
        confirm.main([str(finished), "--no-test"])
    assert "Did you mean --test?" in capsys.readouterr().err


TINY = """
study: tiny
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, val_fraction: 0.5}
objectives: {accuracy: maximize, spike_rate: minimize}
space: {tau: {uniform: [1.2, 2.0]}, step: {choice: [1]}}
budget: {trials: 2, epochs: 2}
scheduler: {name: none}
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_real_study_is_confirmed_with_real_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yml").write_text(TINY)
    assert run.main([str(tmp_path / "tiny.yml"), "--out", str(tmp_path / "runs")]) == 0
    assert confirm.main([str(tmp_path / "runs" / "tiny"), "--seeds", "2", "--test"]) == 0
    study = results.load(tmp_path / "runs" / "tiny")
    assert len({row["seed"] for row in study.attrs["confirmed"]}) == 2
    assert study.attrs["tested"]["rows"]
    assert "test accuracy" in capsys.readouterr().out
