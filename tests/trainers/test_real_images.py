"""Trainings on real images, where their files are: in `data/`, or in the folder that SPIKING_DATA_DIR names."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from trainers.config import load, recipe_path
from trainers.data.sources import check_present
from trainers.datasets import DataError
from trainers.epoch_metrics import EpochMetrics
from trainers.train import train

DATA = os.environ.get("SPIKING_DATA_DIR", str(Path(__file__).parents[2] / "data"))


@pytest.mark.slow
def test_two_blocks_of_width_64_learn_mnist() -> None:
    config = load(recipe_path("spikformer/mnist"), overrides=[f"data_dir={DATA}", "device=cpu", "threads=1"])
    assert (config.depths, config.embed_dim) == (2, 64)
    try:
        check_present(config)
    except DataError as error:
        pytest.skip(f"{error}; or set SPIKING_DATA_DIR to it")
    epochs: list[EpochMetrics] = []
    started = time.process_time()
    train(config, epochs.append)
    print(f"{epochs[-1].metrics['accuracy']:.2f} % after {time.process_time() - started:.0f} s")
    assert epochs[-1].metrics["accuracy"] > 97.5
