"""A trainer that logs its actions and fails on command (`--import tests.support.faulty_trainer`).

Each start of a training and each epoch adds a line to the file FAULTY_LOG. FAULTY, if set, says what goes wrong, as
JSON: its `kind`, after which `epoch`, in which `trial` (in all where none is given), and how many `times`. With
FAULTY_CLOCK set the clock jumps, in the driver too: by so many seconds after the first epochs, then as far back. With
FAULTY_RAY set Ray takes itself for that version.
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

MOST_MIB = 6000
"""What a training that takes all memory takes where nobody ends it."""

JUMPS_AFTER = 6
"""Lines of the log between two jumps of the clock."""

_train: Any = None
"""The trainer that was there before."""


def train(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> Any:
    """Trains as ever, as far as it is let."""
    from trainers import checkpoint

    saved = checkpoint.generations(folder)
    done = int(saved[0].stem.removeprefix("epoch_")) if saved else 0
    node = ray.get_runtime_context().get_node_id()
    note("start", folder.name, done, node=node)

    def tell(report: EpochMetrics) -> None:
        if report.epoch > done:  # else it is the last saved one, told once more
            note("epoch", folder.name, report.epoch)
        on_epoch(report)
        strike(folder.name, report.epoch)

    strike(folder.name, 0)
    return _train(config, tell, folder, **others)


def note(what: str, trial: str, epoch: int, **facts: Any) -> None:
    """Adds a line to the log."""
    entry = {"what": what, "trial": trial, "epoch": epoch, "time": time.time(), "pid": os.getpid(), **facts}
    with open(os.environ["FAULTY_LOG"], "a") as file:
        file.write(json.dumps(entry) + "\n")


def notes(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log, in the order in which they were written."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def strike(trial: str, epoch: int) -> None:
    """Lets happen what is to happen in a trial after an epoch, if it has not happened often enough."""
    told = json.loads(os.environ.get("FAULTY", "{}"))
    if not told or told["epoch"] != epoch or told.get("trial", trial) != trial:
        return
    struck = [entry for entry in notes(Path(os.environ["FAULTY_LOG"])) if entry["what"] == "fault"]
    if len(struck) < told["times"]:
        note("fault", trial, epoch)
        FAULTS[told["kind"]]()


def _raise() -> None:
    raise RuntimeError("something in the model is wrong")


def _run_out_of_memory() -> None:
    raise MemoryError


def _take_all_memory() -> None:
    """Takes more and more of the machine's memory, until somebody ends the process."""
    taken = []
    for _ in range(MOST_MIB // 50):
        taken.append(b"1" * 50 * 2**20)
        time.sleep(0.05)
    time.sleep(60)


FAULTS: dict[str, Callable[[], None]] = {
    "raise": _raise,
    "memory": _run_out_of_memory,
    "gorge": _take_all_memory,
    "hang": lambda: time.sleep(3600),
}


def jump(seconds: float) -> None:
    """Has Python's clock jump ahead once some epochs are noted, and later to as long before the true time."""
    true, log = time.time, Path(os.environ["FAULTY_LOG"])

    def told() -> float:
        noted = log.read_bytes().count(b"\n") if log.exists() else 0
        return true() + (0.0, seconds, -seconds)[min(noted // JUMPS_AFTER, 2)]

    time.time = told


def install() -> None:
    """Puts this trainer in the place of the one that is there."""
    global _train
    import trainers.train

    _train, trainers.train.train = trainers.train.train, train  # type: ignore[assignment]


ray.__version__ = os.environ.get("FAULTY_RAY", ray.__version__)
if "FAULTY_CLOCK" in os.environ:
    jump(float(os.environ["FAULTY_CLOCK"]))
if ray.is_initialized():  # in a worker; the driver is to start as it does without
    install()
