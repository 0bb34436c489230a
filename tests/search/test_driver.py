"""The search from Python."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import results
import search
from config import interrupts, strict_yaml
from config.errors import ConfigError
from search import driver, replay, run, status
from search.execution.cluster import ClusterError
from search.space import reader
from search.storage.database import open_storage
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

SPACE = """\
study: called
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, val_fraction: 0.4}
objectives: {accuracy: maximize, spike_rate: minimize}
space: {tau: {uniform: [1.1, 1.6]}, lr: {choice: [0.02]}, step: {choice: [1]}}
budget: {trials: 2, epochs: 3}
"""


@pytest.mark.ray
def test_run_study_returns_the_results_of_the_search(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    space: dict[str, Any] = strict_yaml.parse(SPACE, "called.yml").data
    study = search.run_study(space, tmp_path, overrides=["budget.trials=1"])
    assert isinstance(study, results.StudyResult)
    assert (study.name, len(study.trials)) == ("called", 1)
    assert study.front()
    assert study == results.load(tmp_path / "called")
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_in_the_space_raises_an_exception_with_its_message(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SPACE.replace("trials", "trails"))
    with pytest.raises(ConfigError, match=r"x.yml:6: budget.trails: unknown key. Did you mean trials\?"):
        search.run_study(tmp_path / "x.yml", tmp_path)


def test_ctrl_c_raises_keyboard_interrupt_and_the_caller_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return 0

    monkeypatch.setattr(driver, "run_in_folder", press)
    (tmp_path / "x.yml").write_text(SPACE)
    with pytest.raises(KeyboardInterrupt):
        search.run_study(tmp_path / "x.yml", tmp_path)
    assert interrupts._deferral.timer is None


def test_one_trial_is_named_in_the_singular() -> None:
    cluster = SimpleNamespace(cpus=1.0, gpus=0.0)
    assert driver._slots_line(1, cluster) == "1 trial at a time on 1 CPU and 0 GPU"
    assert driver._slots_line(2, cluster) == "2 trials at a time on 1 CPU and 0 GPU"


@pytest.fixture
def ended(tmp_path: Path, empty_store: Path, epoch: Callable[..., EpochMetrics]) -> Path:
    """A space file, and beside it a study whose trials are all trained; no trial has an accuracy of 95 %."""
    text = SPACE + "constraints: {accuracy: {min: 95}}\nscheduler: {name: none}\n"
    (tmp_path / "x.yml").write_text(text)
    folder = tmp_path / "runs" / "called"
    folder.mkdir(parents=True)
    study = Study(reader.load(str(tmp_path / "x.yml")), folder, open_storage(folder))
    while (task := study.next_task()) is not None:
        for number in range(1, 4):
            study.on_result(task.number, epoch(number, 60.0 + task.number, 0.1))
    study.close()
    for name in ("runs/mlflow.db", "elsewhere.db"):
        shutil.copy(empty_store, tmp_path / name)
    return tmp_path


def search_again(folder: Path) -> int:
    """Starts the search of the fixture, which only writes its results."""
    return run.main([str(folder / "x.yml"), "--out", str(folder / "runs")])


def test_a_search_whose_constraints_no_trial_meets_ends_with_3_and_names_the_nearest_trial(
    ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search_again(ended) == 3
    output = capsys.readouterr()
    assert output.err == (
        "no trial succeeded: none of 2 full trainings meets the constraints. The nearest is t0001 read at step 1: "
        "accuracy 61.00 % (must be >= 95)\n"
    )
    assert "the front: 0 points" in output.out
    assert "The nearest is t0001 read at step 1" in (ended / "runs" / "called" / "report.html").read_text()


def test_a_search_and_load_use_the_tracking_uri_of_the_environment(
    ended: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{ended / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    search_again(ended)
    assert f"MLflow     {uri} (from MLFLOW_TRACKING_URI)\n" in capsys.readouterr().out
    assert results.load(experiment="called") == results.load(ended / "runs" / "called")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigError, match="no experiment called"):
        results.load(tracking_uri=f"sqlite:///{ended / 'runs' / 'mlflow.db'}", experiment="called")


def test_a_wrong_tracking_uri_of_the_environment_is_an_error_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    (tmp_path / "x.yml").write_text(SPACE)
    assert search_again(tmp_path) == 2
    assert capsys.readouterr().err.startswith("MLFLOW_TRACKING_URI: must be a URI, sqlite:///FILE")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yml"]


def test_too_long_a_temporary_folder_is_refused_with_the_way_out_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + 60 * "x")
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray was started"))
    (tmp_path / "x.yml").write_text(SPACE)
    assert search_again(tmp_path) == 4
    error = capsys.readouterr().err
    assert error.startswith("TMPDIR: must be a path of at most ")
    assert error.endswith("Set RAY_TMPDIR to a short folder, such as RAY_TMPDIR=/tmp\n")


def test_a_search_without_its_gpu_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.storage.preconditions.has_gpu", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray was started"))
    (tmp_path / "x.yml").write_text(SPACE + "resources: {cpu: 1, gpu: 0.5}\n")
    assert search_again(tmp_path) == 4
    error = capsys.readouterr().err
    assert error == (
        "a trial asks for 0.5 GPU, and this machine has none; --set resources.gpu=0 trains on the CPU, and with "
        "--dry-run says how long that takes\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.yml"]


def test_a_missing_gpu_is_reported_before_torch_ray_mlflow_and_optuna_are_imported(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SPACE + "resources: {cpu: 1, gpu: 0.5}\n")  # of embedded data
    code = (
        "import sys; from search import run; from search.storage import preconditions; "
        "preconditions.has_driver = lambda: False; "
        f"code = run.main([{str(tmp_path / 'x.yml')!r}, '--out', {str(tmp_path)!r}]); "
        "found = {'torch', 'ray', 'mlflow', 'optuna', 'scipy', 'timm'} & sys.modules.keys(); "
        "assert (code, found) == (4, set()), (code, found)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_spaces_and_refused_options_are_announced_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise ClusterError("here Ray would start")

    monkeypatch.setattr("search.execution.cluster.start", stop)
    monkeypatch.setattr("search.dry_run.sampling.NUM_SAMPLES", 100)
    monkeypatch.setattr("search.dry_run.sampling.NUM_SIZED", 2)
    space = "space: {model: {choice: [spikformer_cifar, qkformer_cifar]}, depths: {choice: [1]}}\n"
    (tmp_path / "x.yml").write_text(
        SPACE.replace(SPACE.splitlines(keepends=True)[4], space).replace("trials: 2", "trials: 9")
    )
    assert search_again(tmp_path) == 4
    printed = capsys.readouterr().out
    assert "the space has 2 configs, so at most 2 of 9 trials run\n" in printed
    assert "model: qkformer_cifar is always refused (all of " in printed
    assert run.main([str(tmp_path / "x.yml"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "the space has 2 configs, so at most 2 of 9 trials run\n" in printed
    assert "model: qkformer_cifar is always refused (all of " in printed


def test_finishing_a_search_in_which_no_trial_waits_says_so(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(ended / "x.yml"), "--out", str(ended / "runs"), "--finish"]) == 3
    assert "--finish   no trial waits on the first front of its rung\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--finish"], "--finish: {}/runs/called: no such study folder. It needs a study that has run"),
        (["--finish", "--dry-run"], "--finish: trains trials, and --dry-run writes nothing; give one of them"),
    ],
)
def test_finishing_is_refused_without_a_study_and_in_a_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "x.yml").write_text(SPACE)
    assert run.main([str(tmp_path / "x.yml"), "--out", str(tmp_path / "runs"), *arguments]) == 2
    assert message.format(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.yml"]


@pytest.mark.ray
def test_finishing_trains_the_first_fronts_and_says_how_much_before_and_what_is_left_after(
    tmp_path: Path, empty_store: Path, epoch: Callable[..., EpochMetrics], capsys: pytest.CaptureFixture[str]
) -> None:
    budget = "budget: {epochs: 4, epochs_total: 8}\nscheduler: {grace_epochs: 1, reduction_factor: 3}\n"
    (tmp_path / "x.yml").write_text(re.sub("(?m)^budget: .*\n", budget, SPACE))
    folder = tmp_path / "runs" / "called"
    folder.mkdir(parents=True)
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    study = Study(reader.load(str(tmp_path / "x.yml")), folder, open_storage(folder))
    busy = []
    while True:
        while len(busy) < 3 and (task := study.next_task()) is not None:
            busy.append(task.number)
        if not busy:
            break
        number = busy.pop(0)
        done = study.trials[number].epoch + 1
        if study.on_result(number, epoch(done, 60.0 + number + done, 0.1 + 0.1 * number)) == "continue":
            busy.append(number)
    study.finish()
    waiting = [(trial.number, trial.epoch) for trial in study.waiting()]
    study.close()
    assert waiting
    epochs = sum(4 - at for _, at in waiting)
    said = f"{len(waiting)} trials of the first fronts wait: python -m search.run"
    assert status.main([str(folder)]) == 0
    command = f"{folder}/space.yml --out {tmp_path}/runs --finish trains them (at most {epochs} epochs)"
    assert f"{said} {command}" in capsys.readouterr().out
    arguments = [str(tmp_path / "x.yml"), "--out", str(tmp_path / "runs")]
    assert run.main(arguments) == 0
    assert f"{said} {tmp_path}/x.yml --out {tmp_path}/runs --finish trains them" in capsys.readouterr().out
    assert run.main([*arguments, "--finish"]) == 0
    printed = capsys.readouterr().out
    assert f"--finish   trains {len(waiting)} trials to the end, at most {epochs} epochs" in printed
    assert "of the first fronts wait" not in printed
    ended = results.load(folder)
    assert {ended.trial(number).state for number, _ in waiting} <= {"complete", "stopped", "failed"}
    assert any(ended.trial(number).num_epochs == 4 for number, _ in waiting)
    assert replay.main([str(folder)]) == 0
    assert results.load(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db", experiment="called") == ended
