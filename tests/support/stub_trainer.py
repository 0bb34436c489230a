"""A trainer that only takes time, for `benchmarks.overhead` (`--import tests.support.stub_trainer`).

It builds the model, saves its state and resumes from a checkpoint, like the real trainer. With STUB_REAL=1 the real
trainer runs, and its time is measured. Each training adds a line to the file STUB_LOG. The driver is not changed.
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

_timings: dict[str, float] = {}
"""Of the current training: its seconds in epochs and in building the model, and the time of its first epoch."""


def train_stub(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> None:
    """Keeps a core busy for STUB_EPOCH_S seconds per epoch, and reports metrics computed from the config."""
    from models import create_model
    from trainers import checkpoint

    model = timed(create_model, "build_s")(config)
    done, saved = 0, checkpoint.load_newest(folder)
    if saved is not None:
        model.load_state_dict(saved["model"])
        done = saved["epoch"]
        on_epoch(invented_metrics(config, done))
    for epoch in range(done + 1, config.epochs + 1):
        timed(keep_busy, "own_s")(float(os.environ["STUB_EPOCH_S"]))
        state = {"model": model.state_dict(), "epoch": epoch}
        checkpoint.save(folder, epoch, state)
        on_epoch(invented_metrics(config, epoch))


def keep_busy(seconds: float) -> None:
    """Keeps a core busy."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        pass


def invented_metrics(config: TrainConfig, epoch: int) -> EpochMetrics:
    """Returns metrics that grow with the epochs and differ between configs, as many as a real report has."""
    accuracy = 90.0 - 30.0 * (config.tau - 1.5) ** 2 - 30.0 / (1 + epoch)
    metrics = {"accuracy": accuracy, "loss": 1.0 - accuracy / 100, "spike_rate": 0.1 + 0.1 * config.tau**0.5}
    metrics |= {"spikes": 1e3, "synops": 1e6, "macs": 1e5, "energy_mj": 1e-3}
    read_outs = [{"read_step": t, "chance": 13.0, **metrics} for t in range(1, config.step + 1)]
    layers = [{"name": f"layer{i}", "kind": "Conv", "synops": 1e5, "macs": 0.0} for i in range(20)]
    known = {"params_m": 0.1, "images_per_s": 1e3, "peak_mem_gib": 0.5}
    return EpochMetrics(epoch, {**metrics, **known}, read_outs, layers)


def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wraps a function so that its seconds are added up under a name."""

    def counted(*arguments: Any, **keys: Any) -> Any:
        if name == "own_s":
            _timings.setdefault("first_step", time.time())
        started = time.monotonic()
        result = function(*arguments, **keys)
        _timings[name] = _timings.get(name, 0.0) + time.monotonic() - started
        return result

    return counted


def with_log(train: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a trainer so that it logs its start, its end and its timings."""

    def train_and_log(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> None:
        _timings.clear()
        started = time.time()
        try:
            train(config, on_epoch, folder, **others)
        finally:
            entry = {"pid": os.getpid(), "started": started, "ended": time.time(), **_timings}
            with open(os.environ["STUB_LOG"], "a") as file:
                file.write(json.dumps(entry) + "\n")

    return train_and_log


def install() -> None:
    """Replaces the trainer by the stub, or measures the real one."""
    import trainers.train
    from models import create_model
    from trainers import loop

    if os.environ.get("STUB_REAL") == "1":
        for name in ("train_epoch", "recalibrate", "evaluate"):
            setattr(loop, name, timed(getattr(loop, name), "own_s"))
        vars(trainers.train)["create_model"] = timed(create_model, "build_s")
        trainers.train.train = with_log(trainers.train.train)
    else:
        trainers.train.train = with_log(train_stub)


if ray.is_initialized():  # in a worker
    install()
