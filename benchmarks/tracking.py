"""Cost of the MLflow mirror for a search: `python -m benchmarks.tracking --json FILE`.

A search whose trials train nothing runs in three modes, alternately and in separate processes: without MLflow (`off`),
with an SQLite store (`on`), and with a server whose port refuses connections (`down`). Every epoch is reported to the
study as by a worker. Changes are uploaded as often as in a search whose trials take `TRIAL_S`, and in `on` the next
epoch waits for the upload, so that all of it is counted.

`tracking_share` and `down_share` are the driver's CPU seconds above `off`, with all threads, imports and the first
connection, over the seconds of such a search with one trial at a time. `tick_ms` is the time that an upload blocks the
loop, as 99th percentile and maximum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from config import strict_yaml
from search.space import reader
from search.storage.database import open_storage
from search.storage.study import Study
from search.tracking import mlflow_uploader
from search.tracking.mlflow_uploader import MlflowUploader
from trainers.epoch_metrics import EpochMetrics

TRIAL_S = 30.0
MODES = ("off", "on", "down")
SPACE = """
study: tracking
base: spikformer/digits
objectives: {{accuracy: maximize, spike_rate: minimize}}
space:
  tau: {{uniform: [1.1, 3.0]}}
  lr: {{log_uniform: [0.001, 0.03]}}
budget: {{trials: {trials}, epochs: {epochs}}}
sampler: {{name: random}}
scheduler: {{name: none}}
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of a trial")
    parser.add_argument("--repeats", type=int, default=3, help="searches of each mode")
    parser.add_argument("--mode", choices=MODES, help="run one search of this mode, in this process")
    arguments = parser.parse_args(argv)
    if arguments.mode is not None:
        print(json.dumps(run(arguments.mode, arguments.trials, arguments.epochs)))
    else:
        report.write(measure(arguments.trials, arguments.epochs, arguments.repeats), arguments.json)


def measure(trials: int, epochs: int, repeats: int) -> dict[str, Any]:
    """Returns the shares and their inputs, as medians over searches of each mode, run in turn."""
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(repeats):
        for mode in MODES:
            command = [sys.executable, "-m", "benchmarks.tracking", "--mode", mode]
            command += ["--trials", str(trials), "--epochs", str(epochs)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[mode].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {mode: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for mode, runs in found.items()}
    off = medians["off"]["cpu_s"]
    added = medians["on"]["cpu_s"] - off
    return {
        "tracking_share": added / (trials * TRIAL_S),
        "down_share": (medians["down"]["cpu_s"] - off) / (trials * TRIAL_S),
        "cpu_s_per_trial": (added - medians["on"]["connect_s"]) / trials,
        "cpu_ms_per_report": 1000 * (added - medians["on"]["connect_s"]) / (trials * epochs),
        "trials": trials,
        "epochs": epochs,
        "trial_s": TRIAL_S,
        "machine": report.machine(),
        **medians,
    }


def run(mode: str, trials: int, epochs: int) -> dict[str, float]:
    """Runs one search; returns its CPU and wall seconds, those until the store was reached, and the ticks."""
    every = max(1, round(mlflow_uploader.INTERVAL_S * epochs / TRIAL_S))
    mlflow_uploader.INTERVAL_S = 0.0
    mlflow_uploader.RETRY_S, mlflow_uploader.MAX_RETRY_S = (
        0.05,
        0.2,
    )  # at least as many failed attempts as in a real search
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tracking"
        folder.mkdir()
        space = reader.read(strict_yaml.parse(SPACE.format(trials=trials, epochs=epochs), "tracking.yml"))
        study = Study(space, folder, open_storage(folder))
        started, cpu = time.monotonic(), time.process_time()
        uri = "http://127.0.0.1:9" if mode == "down" else f"sqlite:///{scratch}/mlflow.db"
        uploader = None if mode == "off" else MlflowUploader(uri, None, folder, study.result)
        _wait(uploader)
        connected = time.process_time() - cpu
        ticks = [tick for _ in range(trials) for tick in _trial(study, uploader, epochs, every)]
        if uploader is not None:
            missing = uploader.finish("FINISHED", 60)
            assert (missing is None) == (mode == "on"), missing
        found = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - started, "connect_s": connected}
        study.close()
    ordered = sorted(ticks)
    return {**found, "tick_ms_p99": 1000 * ordered[int(0.99 * len(ordered))], "tick_ms_max": 1000 * ordered[-1]}


def _trial(study: Study, uploader: MlflowUploader | None, epochs: int, every: int) -> list[float]:
    """Runs one trial; returns the seconds that each tick blocks the loop."""
    task = study.next_task()
    assert task is not None
    ticks = []
    for epoch in range(1, epochs + 1):
        study.on_result(task.number, _epoch(task.number, epoch))
        started = time.perf_counter()
        if uploader is not None:
            uploader.mark_changed()
            if epoch % every == 0:
                uploader.tick()
        ticks.append(time.perf_counter() - started)
        _wait(uploader)
    return ticks


def _wait(uploader: MlflowUploader | None) -> None:
    """Waits until the upload is done, or the store has been found unreachable."""
    while uploader is not None and uploader.problem is None and not uploader._is_idle:
        time.sleep(0.002)


def _epoch(number: int, epoch: int) -> EpochMetrics:
    """Returns the metrics of a trial with eight layers and four timesteps, with values of many digits."""
    value = (number + epoch / 7) / 31
    metrics = {"accuracy": 50 + 10 * value, "loss": 1 / (1 + value), "spike_rate": 0.1 + value / 100}
    metrics |= {"spikes": 1e4 * value, "synops": 1e6 * value, "macs": 1e5, "energy_mj": value / 1000, "params_m": 0.4}
    read_outs = [{"read_step": t, "chance": 13.0, **metrics} for t in range(1, 5)]
    metrics |= {"images_per_s": 1000 / 3, "peak_mem_gib": 2 / 3}
    return EpochMetrics(epoch, metrics, read_outs, [{"name": f"blocks.{i}", "spike_rate": value} for i in range(8)])


if __name__ == "__main__":
    main()
