"""The example of a custom model, attention and data set, used like a user package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import results

ROOT = Path(__file__).parents[2]
SPACE = "examples/own_model/space.yml"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )


def test_without_the_package_its_names_are_unknown() -> None:
    done = call("-m", "search.run", SPACE, "--dry-run")
    assert done.returncode == 2
    assert "unknown model (got 'my_model')" in done.stderr


def test_with_the_package_the_dry_run_shows_its_space() -> None:
    done = call("-m", "search.run", SPACE, "--import", "examples.own_model", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "attn_layer: {'choice': ['Neighbours', 'SSA']}" in done.stdout


def test_the_example_model_learns_the_example_data() -> None:
    code = (
        "import examples.own_model, tempfile, pathlib\n"
        "from trainers.config import load\n"
        "from trainers.train import train\n"
        "found = []\n"
        "config = load('examples/own_model/base.yml', overrides=['epochs=3'])\n"
        "train(config, lambda r: found.append(r.metrics), pathlib.Path(tempfile.mkdtemp()))\n"
        "assert found[-1]['accuracy'] > 60, found\n"
        "assert found[-1]['synops'] > 0\n"
    )
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_over_it_runs_on_workers(tmp_path: Path) -> None:
    done = call("-m", "search.run", SPACE, "--import", "examples.own_model", "--trials", "3", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    study = results.load(tmp_path / "own_model")
    assert {trial.config["dataset"] for trial in study.trials} == {"stripes"}
    assert study.front()
