"""Overhead of a search over its trainings: `python -m benchmarks.overhead --json F`.

`overhead` is 1 - (training and evaluation seconds of all trials) / (wall time x slots), from the driver's start to its
end, over 24 trials of 30 s that keep a core busy. The other figures are its parts, the cost of tracking, and the start
with the real trainer. Two more are of 1,000 trials that do nothing, so that only Tune's loop is left: with TPE alone
(`no_ops`), and with rungs and acquisition as by default (`no_ops_guided`). `--quick` takes three minutes for fewer and
shorter trials, whose `overhead` is mostly the start and end of a search.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report

SPACE = """
study: overhead
base: spikformer/digits
fixed: {{distort: false}}
objectives: {{accuracy: maximize, spike_rate: minimize}}
space:
  tau: {{uniform: [1.1, 3.0]}}
  threshold: {{uniform: [0.5, 1.5]}}
  lr: {{log_uniform: [0.003, 0.03]}}
  depths: {{int: [1, 4]}}
budget: {{trials: {trials}, epochs: {epochs}}}
scheduler: {scheduler}
concurrency: {slots}
"""
SLOTS = 2
NO_RUNGS, MOASHA = "{name: none}", "{name: moasha, grace_epochs: 1, reduction_factor: 3}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="8 trials of 10 s, 100 that do nothing")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    busy = run(Workload(8, 10, 1.0) if arguments.quick else Workload(24, 10, 3.0))
    start = run(Workload(4 * SLOTS, 2, is_real=True))
    many = 100 if arguments.quick else 1000
    no_ops, guided = run(Workload(many, 1)), run(Workload(many, 9, scheduler=MOASHA))
    figures = {**trial_figures(busy), "tracking": tracking_figures(busy), "real_trainer": start_figures(start)}
    figures |= {"no_ops": no_op_figures(no_ops), "no_ops_guided": no_op_figures(guided)}
    figures |= {"load_before": load, "machine": report.machine()}
    report.write(figures, arguments.json)


@dataclass(frozen=True)
class Workload:
    """The trials of one search."""

    trials: int
    epochs: int
    epoch_s: float = 0.0
    is_real: bool = False
    scheduler: str = NO_RUNGS


@dataclass(frozen=True)
class Measurement:
    """Measurements of a search, from outside and from inside its driver."""

    workload: Workload
    started: float
    ended: float
    trainings: list[dict[str, float]]
    driver: dict[str, Any]
    database_mib: float

    @property
    def wall_s(self) -> float:
        return self.ended - self.started


def run(workload: Workload) -> Measurement:
    """Runs a search, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = SPACE.format(trials=workload.trials, epochs=workload.epochs, scheduler=workload.scheduler, slots=SLOTS)
        (folder / "space.yml").write_text(space)
        log = folder / "trainings.jsonl"
        stub = {"STUB_LOG": str(log), "STUB_EPOCH_S": str(workload.epoch_s), "STUB_REAL": str(int(workload.is_real))}
        command = [sys.executable, "-m", "benchmarks.watched", str(folder / "figures.json"), str(folder / "space.yml")]
        command += ["--out", str(folder / "runs"), "--import", "tests.support.stub_trainer"]
        started = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **stub})
        ended = time.time()
        trainings = [json.loads(line) for line in log.read_text().splitlines()]
        driver = json.loads((folder / "figures.json").read_text())
        size = (folder / "runs" / "overhead" / "study.db").stat().st_size
        return Measurement(workload, started, ended, trainings, driver, size / 2**20)


def trial_figures(measured: Measurement) -> dict[str, Any]:
    """Returns the overhead and its parts."""
    own_s = sum(training["own_s"] for training in measured.trainings)
    return {
        "overhead": 1.0 - own_s / (measured.wall_s * SLOTS),
        "trials": len(measured.trainings),
        "slots": SLOTS,
        "own_s": own_s,
        "wall_s": measured.wall_s,
        **start_figures(measured),
        "beside_epochs_in_a_training_s": median(t["ended"] - t["first_step"] - t["own_s"] for t in measured.trainings),
        "after_last_training_s": measured.ended - max(t["ended"] for t in measured.trainings),
        "driver_cpu_s": measured.driver["cpu_s"],
    }


def start_figures(measured: Measurement) -> dict[str, float]:
    """Returns the seconds until the first training step: of the search, and of a trial in a reused worker."""
    starts = []
    for pid in {training["pid"] for training in measured.trainings}:
        of_worker = sorted((t for t in measured.trainings if t["pid"] == pid), key=lambda t: t["started"])
        starts += [later["first_step"] - earlier["ended"] - later["build_s"] for earlier, later in pairwise(of_worker)]
    return {
        "until_first_step_s": min(t["first_step"] for t in measured.trainings) - measured.started,
        "start_in_reused_worker_s": median(starts),
        "building_the_model_s": median(t["build_s"] for t in measured.trainings),
    }


def tracking_figures(measured: Measurement) -> dict[str, float]:
    """Returns the CPU seconds of the MLflow thread, and their share of the slots' time."""
    spent = measured.driver["tracking_cpu_s"]
    return {"cpu_s": spent, "share": spent / (measured.wall_s * SLOTS)}


def no_op_figures(measured: Measurement) -> dict[str, Any]:
    """Returns the cost of many trials for the driver, and the time that our calls block Tune's loop."""
    suggested = measured.driver["suggested"]
    tenth = max(2, len(suggested) // 10)
    reports = len(measured.driver["seconds"]["on_trial_result"])
    return {
        "trials": measured.workload.trials,
        "jobs": len(suggested),
        "seconds": measured.wall_s,
        "first_tenth_s_per_trial": (suggested[tenth - 1][0] - suggested[0][0]) / (tenth - 1),
        "last_tenth_s_per_trial": (suggested[-1][0] - suggested[-tenth][0]) / (tenth - 1),
        "memory_growth_mib": suggested[-1][1] - suggested[tenth][1],
        "database_mib": measured.database_mib,
        "driver_cpu_ms_per_report": 1e3 * measured.driver["cpu_s"] / reports,
        "loop_blocked_ms": {name: percentiles(seconds) for name, seconds in measured.driver["seconds"].items()},
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Returns percentiles of the durations of calls, in milliseconds."""
    ordered = sorted(1e3 * value for value in seconds) or [0.0]
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}


if __name__ == "__main__":
    main()
