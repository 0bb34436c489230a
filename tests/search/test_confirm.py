"""The last step of a study: fresh seeds for the front, a race, and one look at the test set."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import results
from results.analysis import references
from search import confirm, run
from search.execution import cluster, worker
from search.storage.study import Study
from trainers.config import load, recipe_path
from trainers.epoch_metrics import EpochMetrics
from trainers.fused import training

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


@pytest.fixture
def finished(open_study: Open, epoch: Epoch, tmp_path: Path) -> Path:
    """A study of four full trials: three on the front, of which the second was lucky, and one that was not."""
    study = open_study("scheduler.name=none", "budget.trials=4", "space.step={choice: [1]}")
    for accuracy, rate in ((95.0, 0.3), (93.0, 0.2), (80.0, 0.1), (70.0, 0.25)):
        task = study.next_task()
        assert task is not None
        for number in range(1, 10):
            study.on_result(task.number, epoch(number, accuracy, rate))
    (tmp_path / "space.yml").write_text(study.space.yaml())
    study.close()
    return tmp_path


@pytest.fixture
def tiny_task(tmp_path: Path) -> dict[str, Any]:
    """One epoch of a small net, as a worker is told of it."""
    keys = {
        "epochs": 1,
        "embed_dim": 16,
        "depths": 1,
        "step": 1,
        "warmup_epochs": 0,
        "cooldown_epochs": 0,
        "num_heads": 2,
    }
    config = load(recipe_path("spikformer/digits")).dump() | keys | {"read_step": 1}
    return {"config": config, "folder": str(tmp_path / "again"), "store_uri": None, "imports": []}


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """Made-up trainings in place of Ray's: what was asked for, as (trial, seed, what)."""
    asked: list[tuple[int, int, str]] = []
    truth = {0: (95.0, 0.3), 1: (60.0, 0.35), 2: (80.0, 0.1)}

    def one(task: dict[str, Any], what: str) -> dict[str, Any]:
        asked.append((task["trial"], task["seed"], what))
        accuracy, rate = truth[task["trial"]]
        nudge = 0.1 * (task["seed"] % 3)
        read_out = {"read_step": 1, "accuracy": accuracy + nudge, "spike_rate": rate + nudge / 1000, "params_m": 0.01}
        return {"read_outs": [read_out]}

    def run_all(function: Any, tasks: Sequence[Any], *others: Any) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            if function is worker.evaluate_test:
                yield position, one(task, "test")
            else:
                yield position, [one(member, "train") for member in task]

    monkeypatch.setattr(worker, "run_all", run_all)
    here = cluster.Cluster((cluster.Node("a", "a", 2, 0),))
    monkeypatch.setattr(cluster, "start", lambda address, insecure, imports: here)
    return asked


def test_clear_losers_drop_out_after_two_seeds_and_the_test_set_is_read_for_the_rest(
    finished: Path, no_ray: list[tuple[int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert confirm.main([str(finished), "--seeds", "4"]) == 0
    trained = [(t, s) for t, s, what in no_ray if what == "train"]
    assert [t for t, _ in trained].count(0) == [t for t, _ in trained].count(2) == 4
    assert [t for t, _ in trained].count(1) == 2
    assert {t for t, _, what in no_ray if what == "test"} == {0, 2}
    printed = capsys.readouterr().out
    assert re.search(r"t0000 T=1\s+4\s+95\S* % ± 0\S*", printed)
    assert "test accuracy" in printed


@pytest.mark.parametrize(("kind", "code"), [("environment", 4), ("diverged", 0), ("killed", 0)])
def test_a_machine_that_is_to_blame_ends_it_and_a_config_does_not(
    finished: Path,
    no_ray: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    code: int,
) -> None:
    def failing(function: Any, tasks: Sequence[Any], *others: Any) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            failure = {"failure": kind, "reason": "it said so"}
            yield position, failure if kind == "killed" else [failure for _ in task]

    monkeypatch.setattr(worker, "run_all", failing)
    assert confirm.main([str(finished)]) == code
    told = capsys.readouterr()
    assert "it said so" in told.out + told.err
    if not code:
        assert "the test set is not read" in told.out
        assert results.load(finished).attrs.get("tested") is None


def test_a_training_says_all_that_was_measured_of_it(tiny_task: dict[str, Any]) -> None:
    found = worker._retrain_one(tiny_task)
    assert {"accuracy", "images_per_s", "params_m", "read_step"} <= found["read_outs"][-1].keys()
    broken = {**tiny_task, "config": {**tiny_task["config"], "dataset": "cifar10", "data_dir": "nowhere"}}
    broken["config"] |= {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "distort": False, "img_size": 32}
    assert worker._retrain_one(broken)["failure"] == "environment"


def test_fresh_seeds_are_the_same_for_all_and_none_of_the_search(
    finished: Path, no_ray: list[tuple[int, int, str]]
) -> None:
    confirm.main([str(finished), "--seeds", "2"])
    seeds = [{s for t, s, what in no_ray if t == trial_number and what == "train"} for trial_number in (0, 1, 2)]
    assert seeds[0] == seeds[1] == seeds[2]
    own = int(results.load(finished).trial(0).config["seed"])
    assert own not in seeds[0]


def test_a_second_call_trains_only_what_is_missing_and_leaves_the_test_set_alone(
    finished: Path, no_ray: list[tuple[int, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    confirm.main([str(finished), "--seeds", "2"])
    no_ray.clear()
    assert confirm.main([str(finished), "--seeds", "3"]) == 0
    assert [(t, what) for t, _, what in no_ray] == [(0, "train"), (2, "train")]
    assert "read for this study before" in capsys.readouterr().out


def test_the_spread_stands_in_the_study_and_so_in_the_report(finished: Path, no_ray: Any) -> None:
    confirm.main([str(finished), "--seeds", "3", "--no-test"])
    study = results.load(finished)
    spread = references.spreads(study)[(0, 1)]["accuracy"]
    assert spread.seeds == 3
    assert 0 < spread.deviation < 0.2
    assert "tested" not in study.attrs
    assert (finished / "report.html").exists()


def test_a_study_without_a_front_has_nothing_to_confirm(
    open_study: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study()
    (tmp_path / "space.yml").write_text(study.space.yaml())
    assert confirm.main([str(tmp_path)]) == 3
    assert "the front is empty" in capsys.readouterr().err


def test_bad_arguments_are_a_sentence(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert confirm.main([str(finished), "--seeds", "0"]) == 2
    assert "--seeds: must be from 1 to 100 (got 0)" in capsys.readouterr().err
    assert confirm.main([str(tmp_path / "nothing")]) == 2


TINY = """
study: tiny
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, val_fraction: 0.5}
objectives: {accuracy: maximize, spike_rate: minimize}
space: {tau: {uniform: [1.2, 2.0]}, step: {choice: [1]}}
budget: {trials: 2, epochs: 2}
scheduler: {name: none}
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_seeds_that_train_as_one_are_trained_to_the_end_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    if breaks:
        monkeypatch.setattr(training, "train_group", lambda jobs, tell, data: 1 / 0)
    keys = ("dataset=digits", "embed_dim=16", "num_heads=2", "depths=1", "step=1", "epochs=2", "cooldown_epochs=0")
    configs = [load("trainers/recipes/spikformer/digits.yml", overrides=[*keys, f"seed={seed}"]) for seed in (1, 2)]
    tasks = [
        {"config": config.dump(), "folder": str(tmp_path / str(config.seed)), "imports": [], "store_uri": None}
        for config in configs
    ]
    found = worker.retrain._function(tasks)
    assert all(one["read_outs"][-1]["accuracy"] > 10.0 for one in found)
    assert found[0]["read_outs"] != found[1]["read_outs"]
    assert worker.evaluate_test._function(tasks[0])["read_outs"]


DYING = """
import os, ray
from search.space import Resources
from search.execution.worker import run_all

@ray.remote(max_retries=1)
def work(task):
    if task == "dies":
        os._exit(1)
    return {"read_outs": task / 2}

ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
for position, found in sorted(run_all(work, ["dies", 4, "text"], Resources(), 1)):
    print(position, found.get("failure"), found.get("read_outs"))
"""


@pytest.mark.slow
def test_a_process_that_dies_is_the_failure_of_its_training_alone() -> None:
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", DYING], cwd=root, capture_output=True, text=True, timeout=120)
    found = re.findall(r"^\d \w+ \S+$", told.stdout, re.MULTILINE)  # Ray has its say, too
    assert found == ["0 killed None", "1 None 2.0", "2 error None"], told.stdout + told.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_real_study_is_confirmed_with_real_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yml").write_text(TINY)
    assert run.main([str(tmp_path / "tiny.yml"), "--out", str(tmp_path / "runs")]) == 0
    assert confirm.main([str(tmp_path / "runs" / "tiny"), "--seeds", "2"]) == 0
    study = results.load(tmp_path / "runs" / "tiny")
    assert len({record["seed"] for record in study.attrs["confirmed"]}) == 2
    assert study.attrs["tested"]["rows"]
    assert "test accuracy" in capsys.readouterr().out
