"""A trainer that logs its actions and fails on command (`--import tests.support.faulty_trainer`).

Each start of a training and each epoch adds a line to the file FAULTY_LOG. FAULTY is the fault as JSON: its `kind`, the
`epoch` after which it happens, the `trial` (all if none is given), and how many `times`. FAULTY_CLOCK makes the clock
jump, in the driver too: forward by that many seconds after the first epochs, later back by as much. FAULTY_RAY replaces
Ray's version.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from trainers.config import TrainConfig
from trainers.epoch_metrics import EpochMetrics, OnEpoch

MAX_MIB = 6000
"""Limit of a training that takes all memory, if it is not killed before."""

JUMPS_AFTER = 6
"""Lines of the log between two jumps of the clock."""

_train: Any = None
"""The trainer that this one replaces."""


def train(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> Any:
    """Trains until the fault happens."""
    from trainers import checkpoint

    saved = checkpoint.generations(folder)
    done = int(saved[0].stem.removeprefix("epoch_")) if saved else 0
    node = ray.get_runtime_context().get_node_id()
    log_event("start", folder.name, done, node=node)

    def log_and_report(report: EpochMetrics) -> None:
        if report.epoch > done:  # else it is the last saved one, reported once more
            log_event("epoch", folder.name, report.epoch)
        on_epoch(report)
        fail_if_due(folder.name, report.epoch)

    fail_if_due(folder.name, 0)
    return _train(config, log_and_report, folder, **others)


def log_event(what: str, trial: str, epoch: int, **details: Any) -> None:
    """Adds a line to the log."""
    entry = {"what": what, "trial": trial, "epoch": epoch, "time": time.time(), "pid": os.getpid(), **details}
    with open(os.environ["FAULTY_LOG"], "a") as file:
        file.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a log, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fail_if_due(trial: str, epoch: int) -> None:
    """Triggers the fault of a trial after an epoch, unless it has happened often enough."""
    fault = json.loads(os.environ.get("FAULTY", "{}"))
    if not fault or fault["epoch"] != epoch or fault.get("trial", trial) != trial:
        return
    happened = [entry for entry in read_log(Path(os.environ["FAULTY_LOG"])) if entry["what"] == "fault"]
    if len(happened) < fault["times"]:
        log_event("fault", trial, epoch)
        FAULTS[fault["kind"]]()


def _raise() -> None:
    raise RuntimeError("something in the model is wrong")


def _run_out_of_memory() -> None:
    raise MemoryError


def _take_all_memory() -> None:
    """Takes more and more of the machine's memory until the process is killed."""
    taken = []
    for _ in range(MAX_MIB // 50):
        taken.append(b"1" * 50 * 2**20)
        time.sleep(0.05)
    time.sleep(60)


FAULTS: dict[str, Callable[[], None]] = {
    "raise": _raise,
    "memory": _run_out_of_memory,
    "gorge": _take_all_memory,
    "hang": lambda: time.sleep(3600),
}


def make_clock_jump(seconds: float) -> None:
    """Makes Python's clock jump forward once some epochs are logged, and later back to before the true time."""
    true, log = time.time, Path(os.environ["FAULTY_LOG"])

    def jumping() -> float:
        num_lines = log.read_bytes().count(b"\n") if log.exists() else 0
        return true() + (0.0, seconds, -seconds)[min(num_lines // JUMPS_AFTER, 2)]

    time.time = jumping


def install() -> None:
    """Replaces the trainer by this one."""
    global _train
    import trainers.train

    _train, trainers.train.train = trainers.train.train, train  # type: ignore[assignment]


ray.__version__ = os.environ.get("FAULTY_RAY", ray.__version__)
if "FAULTY_CLOCK" in os.environ:
    make_clock_jump(float(os.environ["FAULTY_CLOCK"]))
if ray.is_initialized():  # in a worker; the driver is not changed
    install()
