"""The main command as users type it, with real Ray, real training, a real database and a real MLflow store."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

import results
from results import export
from search import run
from trainers import run as train_command

ROOT = Path(__file__).parents[2]
TINY = """\
# a search of seconds
study: tiny
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, batch_size: 128, val_fraction: 0.4}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 1.6]}
  threshold: {uniform: [0.4, 0.8]}
  step: {choice: [1, 2]}
  lr: {log_uniform: [0.01, 0.03]}
budget: {trials: 7, epochs: 4}
scheduler: {grace_epochs: 1, reduction_factor: 2}
seed: 1
"""


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "search.run", str(folder / "tiny.yml"), "--out", str(folder / "runs"), *more]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    (folder / "tiny.yml").write_text(TINY)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(folder, *more), cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(process: subprocess.Popen[str], folder: Path, event: str, count: int = 1) -> None:
    """Waits until the study has logged `count` events of one type."""
    log = folder / "runs" / "tiny" / "events.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and log.read_text().count(f'"event": "{event}"') >= count:
            return
        if process.poll() is not None:
            pytest.fail(f"the search ended too early:\n{process.stdout.read() if process.stdout else ''}")
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no {event} within two minutes")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished search: its folder and its output."""
    folder = tmp_path_factory.mktemp("finished")
    process = start(folder)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return folder, printed


@pytest.mark.ray
class TestAFinishedSearch:
    def test_prints_one_line_per_trial_then_the_front_the_files_and_the_next_commands(
        self, finished: tuple[Path, str]
    ) -> None:
        folder, printed = finished
        assert all(f"t{number:04d}  " in printed for number in range(7))
        for text in (
            "the front:",
            "<- knee",
            "front.csv",
            "study.db",
            "mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///",
            "results.export",
        ):
            assert text in printed
        assert str(folder / "runs" / "tiny") in printed
        assert "Traceback" not in printed

    def test_leaves_full_trials_complete_and_stopped_ones_pruned(self, finished: tuple[Path, str]) -> None:
        folder, _ = finished
        study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'runs' / 'tiny' / 'study.db'}")
        states = Counter(trial.state.name for trial in study.trials)
        assert sum(states.values()) == 7
        assert states["COMPLETE"] >= 1
        assert states["PRUNED"] >= 1
        assert states["RUNNING"] == 0

    def test_writes_a_front_of_full_undominated_points(self, finished: tuple[Path, str]) -> None:
        folder, _ = finished
        with (folder / "runs" / "tiny" / "front.csv").open() as file:
            rows = list(csv.DictReader(file))
        study = results.load(folder / "runs" / "tiny")
        assert list(rows[0])[:7] == ["trial", "read_step", "accuracy", "spike_rate", "spikes", "synops", "energy_mj"]
        assert list(rows[0])[-4:] == ["tau", "threshold", "step", "lr"]
        points = [(float(row["accuracy"]), float(row["spike_rate"])) for row in rows]
        for a in points:
            assert not any(b[0] >= a[0] and b[1] <= a[1] and b != a for b in points)
        assert all(study.trial(int(row["trial"])).state == "complete" for row in rows)
        assert (folder / "runs" / "tiny" / "front.png").stat().st_size > 10_000

    def test_writes_a_table_of_all_trials(self, finished: tuple[Path, str]) -> None:
        folder, printed = finished
        path = folder / "runs" / "tiny" / "trials.csv"
        assert str(path) in printed
        with path.open() as file:
            rows = list(csv.DictReader(file))
        study = results.load(path.parent)
        assert [(int(row["trial"]), row["state"]) for row in rows] == [(t.number, t.state) for t in study.trials]
        assert all(row["source"] and float(row["duration_s"]) > 0 for row in rows)

    def test_writes_the_report_that_the_command_writes(self, finished: tuple[Path, str]) -> None:
        from results.report import main

        folder, printed = finished
        path = folder / "runs" / "tiny" / "report.html"
        assert str(path) in printed
        before = path.read_bytes()
        assert main([str(folder / "runs" / "tiny")]) == 0
        assert path.read_bytes() == before

    def test_is_the_same_read_from_the_folder_and_from_mlflow(self, finished: tuple[Path, str]) -> None:
        folder, _ = finished
        uri = f"sqlite:///{folder / 'runs' / 'mlflow.db'}"
        mirrored = results.load(tracking_uri=uri, experiment="tiny")
        assert mirrored == results.load(folder / "runs" / "tiny")
        assert len(mirrored.trials) == 7

    def test_keeps_checkpoints_of_the_front_only(self, finished: tuple[Path, str]) -> None:
        folder, _ = finished
        stored = {int(path.name[1:]) for path in (folder / "runs" / "tiny" / "checkpoints").iterdir()}
        assert stored == {point.trial for point in results.load(folder / "runs" / "tiny").front()}

    def test_started_a_second_time_does_nothing(self, finished: tuple[Path, str]) -> None:
        folder, _ = finished
        before = (folder / "runs" / "tiny" / "events.jsonl").read_bytes()
        second = subprocess.run(command(folder), cwd=ROOT, text=True, capture_output=True, check=True)
        assert "resuming: 7 trials finished, 0 will continue" in second.stdout
        assert (folder / "runs" / "tiny" / "events.jsonl").read_bytes() == before

    @pytest.mark.parametrize("pick", ["knee", "best:accuracy", "trial:0"])
    def test_exports_a_file_that_trains_to_the_very_same_figures(
        self, finished: tuple[Path, str], pick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, _ = finished
        assert export.main([str(folder / "runs" / "tiny"), "--pick", pick, "--out", str(tmp_path)]) == 0
        written = tmp_path / "spikformer" / "digits.yml"
        assert train_command.main(["--config", str(written), "--set", f"output={tmp_path}/runs"]) in (0, 3)
        with next(tmp_path.glob("runs/*/metrics.csv")).open() as file:
            rows = list(csv.DictReader(file))
        study = results.load(folder / "runs" / "tiny")
        number, read_step = chosen(study, pick)
        for epoch, measured in zip(rows, study.trial(number).epochs, strict=False):
            if read_step == study.trial(number).read_step:
                for name in ("accuracy", "loss", "spike_rate", "spikes", "synops", "macs", "energy_mj"):
                    assert float(epoch[name]) == measured[name]
        point = study.trial(number).point(read_step)
        last = rows[study.trial(number).num_epochs - 1]
        assert (float(last["accuracy"]), float(last["spike_rate"]), float(last["synops"])) == (
            point.metrics["accuracy"],
            point.metrics["spike_rate"],
            point.metrics["synops"],
        )


def chosen(study: results.StudyResult, pick: str) -> tuple[int, int]:
    from results.picks import pick as choose

    (point,) = choose(study, pick)
    return point.trial, point.read_step


@pytest.mark.ray
def test_a_killed_search_resumes_and_repeats_nothing(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for(process, tmp_path, "finish", 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {trial.number: trial for trial in results.load(tmp_path / "runs" / "tiny").trials}
    ended = {number for number, trial in before.items() if trial.state not in ("running", "paused")}
    assert ended

    resumed = start(tmp_path)
    printed, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, printed
    after = results.load(tmp_path / "runs" / "tiny")
    assert [trial.number for trial in after.trials] == list(range(7))
    assert all(trial.state in ("complete", "stopped", "failed") for trial in after.trials)
    for number in ended:
        assert after.trial(number) == before[number]
    for number in before.keys() - ended:
        known = before[number].epochs
        assert after.trial(number).epochs[: len(known)] == known
    events = [json.loads(line) for line in (tmp_path / "runs" / "tiny" / "events.jsonl").read_text().splitlines()]
    assert Counter(e["trial"] for e in events if e["event"] == "ask") == dict.fromkeys(range(7), 1)
    assert max(Counter(e["trial"] for e in events if e["event"] in ("finish", "fail")).values()) == 1
    uri = f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert results.load(tracking_uri=uri, experiment="tiny") == after


@pytest.mark.ray
def test_ctrl_c_ends_a_search_soon_with_130_and_the_command_that_resumes_it(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for(process, tmp_path, "decide")
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - sent < 15
    assert process.returncode == 130
    assert f"to resume: python -m search.run {tmp_path / 'tiny.yml'} --out {tmp_path / 'runs'}" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "runs" / "tiny" / "driver.lock").exists()
    assert results.load(tmp_path / "runs" / "tiny").trials


@pytest.mark.ray
def test_a_running_search_accepts_a_config_stops_a_trial_and_ends_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    alone = ("concurrency=1", "budget.epochs=30", "scheduler.name=none")
    process = start(tmp_path, "--trials", "40", *(word for one in alone for word in ("--set", one)))
    wait_for(process, tmp_path, "decide")
    (tmp_path / "mine.yml").write_text("tau: 1.25\nthreshold: 0.5\nstep: 1\nlr: 0.0125\n")

    def request(module: str, *more: str) -> str:
        arguments = [sys.executable, "-m", f"search.{module}", str(folder), *more]
        return subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, check=True).stdout

    assert "it runs next" in request("add", str(tmp_path / "mine.yml"))
    running = next(trial.number for trial in results.load(folder).trials if trial.state == "running")
    assert f"t{running:04d} is stopped after epoch" in request("stop", "--trial", str(running))
    wait_for(process, tmp_path, "finish")
    assert "1 of 1 busy" in request("status")
    deadline = time.monotonic() + 60
    while not any(trial.params["tau"] == 1.25 and trial.epochs for trial in results.load(folder).trials):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "has stopped" in request("stop")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to resume: python -m search.run" in printed
    assert "Traceback" not in printed
    stopped = results.load(folder).trial(running)
    assert (stopped.state, stopped.stop_reason) == ("stopped", "stopped by the user")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events if event["trial"] == running]
    assert kinds[-2:] == ["stop", "finish"]
    assert [e["trial"] > running for e in events if e.get("source") == "added"] == [True]


@pytest.mark.ray
def test_a_second_driver_is_refused_at_once(tmp_path: Path) -> None:
    from search.storage import lock

    (tmp_path / "tiny.yml").write_text(TINY)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    with lock.hold(tmp_path / "runs" / "tiny"):
        second = subprocess.run(command(tmp_path), cwd=ROOT, text=True, capture_output=True, check=False)
    assert second.returncode == 5
    assert "is being run by process" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_dry_run_describes_the_space_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yml").write_text(TINY)
    assert run.main([str(tmp_path / "tiny.yml"), "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "infinitely many configs over 4 keys",
        "infeasible: 0 %",
        "smallest model",
        "largest model",
        "an epoch of",
    ):
        assert text in printed
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yml"]


def test_the_dry_run_of_a_space_whose_data_is_missing_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["embed_dim={choice: [24]}", "num_heads={choice: [2]}", "depths={choice: [1]}", "step={choice: [1]}"]
    overrides = ["fixed.patch_size=1", "start_with=[]", "constraints={}", *(f"space.{key}" for key in small)]
    assert run.main([str(ROOT / "spaces" / "spikformer_cifar.yml"), "--dry-run", "--set", *overrides]) == 0
    assert "the search: about" in capsys.readouterr().out


def test_missing_data_is_one_sentence_and_exit_4_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main([str(ROOT / "spaces" / "spikformer_cifar.yml")]) == 4
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "cifar-10-batches-py lacks" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing.yml"], "nothing.yml: no such file"),
        (["tiny.yml", "--trials", "0"], "budget.trials: must be >= 1 (got 0)"),
        (["tiny.yml", "--name", "a/b"], "--name: may hold letters"),
        (["tiny.yml", "--set", "space"], "--set space: must be key=value"),
        (["tiny.yml", "--set", "budget.epoch=3"], "budget.epoch: unknown key. Did you mean epochs?"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence_and_exit_2(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    assert run.main(arguments) == 2
    assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yml"]


def test_options_replace_the_budget_of_the_file() -> None:
    arguments = run._parser().parse_args(["spaces/quickstart.yml", "--trials", "7", "--epochs", "5"])
    budget = run.load_space(arguments).budget
    assert (budget.trials, budget.epochs) == (7, 5)


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_runs_where_all_paths_hold_spaces_brackets_and_quotes() -> None:
    """The paths of the interpreter, the checkout, temporary files, and of the study and its space file."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as short:
        names = ("python", "checkout", "temporary", "out")
        python, checkout, temporary, out = (Path(short, f"it's a (b) [{name[0]}] x") for name in names)
        for folder in (python, checkout, temporary, out):
            folder.mkdir()
        (python / "venv").symlink_to(sys.prefix, target_is_directory=True)
        for package in ("config", "models", "trainers", "search", "results"):
            (checkout / package).symlink_to(ROOT / package, target_is_directory=True)
        (out / "tiny.yml").write_text(TINY.replace("trials: 7, epochs: 4", "trials: 2, epochs: 1"))
        executable = python / "venv" / Path(sys.executable).relative_to(sys.prefix)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}

        def call(*command: str | Path) -> str:
            started = [executable, *command]
            done = subprocess.run(started, cwd=checkout, env=environment, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        printed = call("-m", "search.run", out / "tiny.yml", "--out", out / "runs")
        export_line = next(line for line in printed.splitlines() if "results.export" in line)
        assert "train it: python -m trainers.run" in call(*shlex.split(export_line)[1:])
