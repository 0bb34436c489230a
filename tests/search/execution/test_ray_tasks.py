"""Ray tasks of a confirmation: retraining alone and in batches, test metrics, and processes that die."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search.execution import ray_tasks
from search.messages import Failure, TrialTask, WorkerTask
from trainers.config import load, recipe_path
from trainers.fused import training

SMALL = ("embed_dim=16", "num_heads=2", "depths=1", "step=1", "cooldown_epochs=0")


def small_trial(folder: Path, seed: int, *overrides: str) -> TrialTask:
    keys = [*SMALL, f"seed={seed}", *overrides]
    return TrialTask(seed, load(recipe_path("spikformer/digits"), overrides=keys).dump(), str(folder / str(seed)))


def test_a_retraining_returns_all_metrics_or_its_failure(tmp_path: Path) -> None:
    trial = small_trial(tmp_path, 1, "epochs=1", "warmup_epochs=0")
    found = ray_tasks.retrain_single(trial)
    assert isinstance(found, list)
    assert {"accuracy", "images_per_s", "params_m", "read_step"} <= found[-1].keys()
    missing = {"dataset": "cifar10", "data_dir": "nowhere", "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    broken = replace(trial, config={**trial.config, **missing, "distort": False, "img_size": 32})
    failure = ray_tasks.retrain_single(broken)
    assert isinstance(failure, Failure)
    assert failure.failure_class == "environment"


@pytest.mark.parametrize("breaks", [False, True])
def test_seeds_that_train_as_one_are_all_trained_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    if breaks:
        monkeypatch.setattr(training, "train_fused", lambda jobs, report, data: 1 / 0)
    trials = tuple(small_trial(tmp_path, seed, "epochs=2") for seed in (1, 2))
    found = ray_tasks.retrain._function(WorkerTask(trials))
    assert all(read_outs[-1]["accuracy"] > 10.0 for read_outs in found)
    assert found[0] != found[1]
    tested = ray_tasks.evaluate_test._function(WorkerTask(trials[:1]))
    assert isinstance(tested, list)
    assert tested


DYING = """
import os, ray
from search.execution.ray_tasks import run_all
from search.space.schema import Resources

@ray.remote(max_retries=1)
def work(task):
    if task == "dies":
        os._exit(1)
    return task / 2

ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
for position, found in sorted(run_all(work, ["dies", 4, "text"], Resources(), 1)):
    print(position, getattr(found, "failure_class", None), found if isinstance(found, float) else None)
"""


@pytest.mark.slow
def test_a_process_that_dies_fails_only_its_training() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", DYING], cwd=root, capture_output=True, text=True, timeout=120)
    found = re.findall(r"^\d \w+ \S+$", done.stdout, re.MULTILINE)  # Ray prints other lines
    assert found == ["0 killed None", "1 None 2.0", "2 error None"], done.stdout + done.stderr
