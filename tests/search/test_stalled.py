"""Searches with real processes whose training hangs, or whose worker ends a trial slowly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import results

ROOT = Path(__file__).parents[2]
SPACE = """\
study: hung
base: spikformer/digits
fixed: {distort: false, embed_dim: 16}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 3.0]}
budget: {trials: 3, epochs: 4}
scheduler: {name: none}
concurrency: 1
"""
TRAINER = '''\
"""A trainer that hangs in the third epoch of trial 1: the first `times` times."""
import os, time
from pathlib import Path
import search.execution.watchdog
import trainers.train
from tests.support.stub_trainer import invented_metrics
from trainers import checkpoint

search.execution.watchdog.Watchdog.__init__.__defaults__ = (3.0,)

def train(config, on_epoch, folder, **others):
    log = Path(os.environ["TRAINED_EPOCHS"])
    for epoch in range(1, config.epochs + 1):
        key = f"{folder.name} {epoch}\\n"
        with log.open("a") as file:
            file.write(key)
        if key == "t0001 3\\n" and log.read_text().count(key) <= int(os.environ["HANGS"]):
            time.sleep(600)
        time.sleep(0.05)
        on_epoch(invented_metrics(config, epoch))

trainers.train.train = train
'''


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(("hangs", "state"), [(1, "complete"), (2, "failed")])
def test_a_hung_training_is_retried_once(tmp_path: Path, hangs: int, state: str) -> None:
    (tmp_path / "space.yml").write_text(SPACE)
    (tmp_path / "hanging.py").write_text(TRAINER)
    environment = {**os.environ, "HANGS": str(hangs), "TRAINED_EPOCHS": str(tmp_path / "log"), "STUB_REAL": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "search.run", str(tmp_path / "space.yml"), "--out", str(tmp_path / "runs")]
    done = subprocess.run(
        [*command, "--import", "hanging"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = results.load(tmp_path / "runs" / "hung").trials
    assert [trial.state for trial in trials] == ["complete", state, "complete"]
    assert trials[1].failure_class == ("stalled" if hangs == 2 else None)
    events = map(json.loads, (tmp_path / "runs" / "hung" / "events.jsonl").read_text().splitlines())
    assert [event["trial"] for event in events if event["event"] == "retry"] == [1]


SLOW = '''\
"""A trainer that ends slowly."""
import time
import trainers.train
from tests.support.stub_trainer import invented_metrics

def train(config, on_epoch, folder, **others):
    try:
        for epoch in range(1, config.epochs + 1):
            on_epoch(invented_metrics(config, epoch))
    finally:
        time.sleep(1.5)

trainers.train.train = train
'''


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_that_is_slow_to_end_a_trial_loses_no_other_one(tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text(SPACE)
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "TUNE_FUNCTION_THREAD_TIMEOUT_S": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "search.run", str(tmp_path / "space.yml"), "--out", str(tmp_path / "runs")]
    done = subprocess.run(
        [*command, "--import", "slow"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [trial.state for trial in results.load(tmp_path / "runs" / "hung").trials] == ["complete"] * 3
