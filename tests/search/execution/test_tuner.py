"""Work between two steps of Tune's loop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import cli
from search.execution import tuner
from search.execution.ray_scheduler import RayScheduler
from search.messages import REPORT, TASK, Failure, WorkerTask
from search.space.schema import Resources
from search.storage.study import Study


def test_a_full_disk_ends_the_search_and_leaves_the_trial_to_the_next_start(open_study: Callable[..., Study]) -> None:
    study = open_study()
    scheduler = RayScheduler(study, Resources(), lambda number: None)
    steps = tuner.StepHook(lambda: None, scheduler, SimpleNamespace(requeue_dropped=lambda trials: None))  # type: ignore[arg-type]
    task = study.next_task()
    assert task is not None
    steps.on_step_end(0, [])
    failure = Failure("environment", "checkpoints/t0000: No space left on device")
    trial = SimpleNamespace(config={TASK: WorkerTask((task,))})
    assert scheduler.on_trial_result(None, trial, {REPORT: failure}) == "STOP"
    with pytest.raises(cli.CommandError, match="t0000: checkpoints/t0000: No space left") as raised:
        steps.on_step_end(1, [])
    assert raised.value.code == cli.ENVIRONMENT
    assert open_study().unfinished == [0]


def test_a_worker_that_starts_ends_the_watch_and_without_one_the_search_reports(
    open_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, calls = open_study(), []
    start = SimpleNamespace(poll=lambda: calls.append("poll"), end=lambda: calls.append("end"))
    searcher = SimpleNamespace(requeue_dropped=lambda trials: None)
    scheduler = RayScheduler(study, Resources(), lambda number: None)
    steps = tuner.StepHook(lambda: None, scheduler, searcher, start)  # type: ignore[arg-type]
    steps.on_step_end(0, [])
    assert calls == []  # there is no trial yet that waits for a worker
    steps.on_step_end(1, [SimpleNamespace(status="PENDING")])
    steps.on_trial_start(2, [], None)
    assert calls == ["poll", "end"]


INTEGRATIONS = """
import sys
from search.execution import tuner
from ray.tune import tune
with tuner.without_usage_report():
    tune.air_usage.tag_callbacks([object()])
assert "ray.tune.tune" in sys.modules and "mlflow" not in sys.modules
tune.air_usage.tag_callbacks([object()])
assert "mlflow" in sys.modules
"""


@pytest.mark.slow
def test_tune_leaves_the_import_of_mlflow_to_the_thread_that_uses_it() -> None:
    subprocess.run([sys.executable, "-c", INTEGRATIONS], check=True, cwd=Path(__file__).parents[3])


THREADS = """
import builtins, sys, threading
real, importers = builtins.__import__, set()

def record(name, *arguments, **others):
    if name.split(".")[0] == "mlflow":
        importers.add(threading.current_thread().name)
    return real(name, *arguments, **others)

builtins.__import__ = record
from search.tracking import mlflow_uploader
mlflow_uploader.START_DELAY_S = 0.0
from search.run import main
code = main(sys.argv[1:])
print("imported in", *sorted(importers))
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_imports_mlflow_in_the_uploaders_thread_only(tmp_path: Path) -> None:
    keys = "space: {tau: {uniform: [1.1, 1.6]}}\nbudget: {trials: 1, epochs: 1}\nconstraints: {accuracy: {min: 0}}\n"
    base = "study: one\nbase: spikformer/digits\nfixed: {distort: false, embed_dim: 16, val_fraction: 0.4}\n"
    (tmp_path / "x.yml").write_text(f"{base}objectives: {{accuracy: maximize}}\n{keys}")
    command = [sys.executable, "-c", THREADS, str(tmp_path / "x.yml"), "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], text=True, capture_output=True, check=False)
    assert "imported in mlflow\n" in done.stdout, done.stdout + done.stderr


def test_tune_reports_nothing_in_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    from ray.tune.tune import _report_progress

    reporter = tuner.SilentReporter()
    reporter.setup(start_time=0.0, total_samples=1, metric="x", mode="max")
    _report_progress(SimpleNamespace(get_trials=list), reporter, done=True)
    assert capsys.readouterr().out == ""
