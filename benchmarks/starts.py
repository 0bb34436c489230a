"""Notes where and from which epoch each training starts, for `benchmarks.nodes`, by `--import benchmarks.starts`.

Each start adds a line to the file STARTS_LOG.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import ray

import trainers.train
from trainers import checkpoint
from trainers.config import TrainConfig
from trainers.metrics import OnEpoch

_train = trainers.train.train


def train(config: TrainConfig, on_epoch: OnEpoch, folder: Path, **others: Any) -> Any:
    """Trains as ever."""
    saved = checkpoint.generations(folder)
    entry = {
        "time": time.time(),
        "trial": folder.name,
        "node": ray.get_runtime_context().get_node_id() if ray.is_initialized() else "",
        "epoch": int(saved[0].stem.removeprefix("epoch_")) if saved else 0,
    }
    with open(os.environ["STARTS_LOG"], "a") as file:
        file.write(json.dumps(entry) + "\n")
    return _train(config, on_epoch, folder, **others)


trainers.train.train = train  # type: ignore[assignment]
