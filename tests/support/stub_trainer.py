"""A trainer that only takes time, for `benchmarks.overhead` (`--import tests.support.stub_trainer`).

It builds the model, saves its state and goes on from what is saved, as the real one does. With STUB_REAL=1 the real
trainer runs, and its own seconds are noted. The environment says what to do; each training adds a line to STUB_LOG.
Nothing changes in the driver, which is to start as it does without.
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

_seen: dict[str, float] = {}
"""Of the training under way: its seconds in epochs and in building its model, and when its first epoch began."""


def spin(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> None:
    """Keeps a core busy for STUB_EPOCH_S seconds an epoch, and reports figures made up from the config."""
    from models import create_model
    from trainers import checkpoint

    model = timed(create_model, "build_s")(config)
    done, saved = 0, checkpoint.load_newest(folder)
    if saved is not None:
        model.load_state_dict(saved["model"])
        done = saved["epoch"]
        on_epoch(made_up(config, done))
    for epoch in range(done + 1, config.epochs + 1):
        timed(keep_busy, "own_s")(float(os.environ["STUB_EPOCH_S"]))
        state = {"model": model.state_dict(), "epoch": epoch}
        checkpoint.save(folder, epoch, state)
        on_epoch(made_up(config, epoch))


def keep_busy(seconds: float) -> None:
    """Keeps a core busy."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        pass


def made_up(config: TrainConfig, epoch: int) -> EpochMetrics:
    """Returns figures that grow with the epochs and differ between configs, as many as a real report holds."""
    accuracy = 90.0 - 30.0 * (config.tau - 1.5) ** 2 - 30.0 / (1 + epoch)
    metrics = {"accuracy": accuracy, "loss": 1.0 - accuracy / 100, "spike_rate": 0.1 + 0.1 * config.tau**0.5}
    metrics |= {"spikes": 1e3, "synops": 1e6, "macs": 1e5, "energy_mj": 1e-3}
    read_outs = [{"read_step": t, "chance": 13.0, **metrics} for t in range(1, config.step + 1)]
    layers = [{"name": f"layer{i}", "kind": "Conv", "synops": 1e5, "macs": 0.0} for i in range(20)]
    known = {"params_m": 0.1, "images_per_s": 1e3, "peak_mem_gib": 0.5}
    return EpochMetrics(epoch, {**metrics, **known}, read_outs, layers)


def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Returns the function with its seconds counted under a name."""

    def counted(*arguments: Any, **keys: Any) -> Any:
        if name == "own_s":
            _seen.setdefault("first_step", time.time())
        started = time.monotonic()
        result = function(*arguments, **keys)
        _seen[name] = _seen.get(name, 0.0) + time.monotonic() - started
        return result

    return counted


def noted(train: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the trainer that also notes when it started and ended, and its own seconds between."""

    def train_and_note(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> None:
        _seen.clear()
        started = time.time()
        try:
            train(config, on_epoch, folder, **others)
        finally:
            entry = {"pid": os.getpid(), "started": started, "ended": time.time(), **_seen}
            with open(os.environ["STUB_LOG"], "a") as file:
                file.write(json.dumps(entry) + "\n")

    return train_and_note


def install() -> None:
    """Puts the stub, or the trainer with its seconds noted, in the trainer's place."""
    import trainers.train
    from models import create_model
    from trainers import loop

    if os.environ.get("STUB_REAL") == "1":
        for name in ("train_epoch", "recalibrate", "evaluate"):
            setattr(loop, name, timed(getattr(loop, name), "own_s"))
        vars(trainers.train)["create_model"] = timed(create_model, "build_s")
        trainers.train.train = noted(trainers.train.train)
    else:
        trainers.train.train = noted(spin)


if ray.is_initialized():  # in a worker
    install()
