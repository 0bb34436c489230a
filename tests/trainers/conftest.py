"""A tiny Spikformer that trains in a fraction of a second, and CIFAR in its true format with few images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers.config import TrainConfig

TINY = {
    "dataset": "digits",
    "model": "spikformer_cifar",
    "step": 2,
    "patch_size": 4,
    "embed_dim": 16,
    "num_heads": 2,
    "mlp_ratio": 1.0,
    "depths": 1,
    "val_fraction": 0.8,
    "smoothing": 0.0,
    "hflip": 0.0,
    "epochs": 2,
    "batch_size": 50,
    "val_batch_size": 600,
    "lr": 0.01,
    "seed": 3,
}
"""300 training and 1200 validation images."""


@pytest.fixture(scope="session")
def tiny_keys() -> dict[str, Any]:
    """The train file of the tiny model, as plain data."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrainConfig]:
    """Makes the tiny config, with some keys changed."""

    def make(**keys: Any) -> TrainConfig:
        return TrainConfig.model_validate({**TINY, **keys})

    return make


@pytest.fixture(scope="session")
def write_cifar() -> Callable[..., Path]:
    """Writes CIFAR-10 or CIFAR-100 in the published on-disk format, with `count` images a file; returns its folder."""

    def write(root: Path, name: str = "cifar10", count: int = 20) -> Path:
        classes = 10 if name == "cifar10" else 100
        folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
        folder.mkdir(parents=True)
        batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
        generator = np.random.default_rng(0)
        for batch in batches:
            pixels = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
            labels = [int(i) % classes for i in range(count)]
            named = {"labels": labels} if classes == 10 else {"fine_labels": labels, "coarse_labels": labels}
            _dump(folder / batch, {"batch_label": batch, "data": pixels, **named})
        meta, key = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
        _dump(folder / meta, {key: [f"class {i}" for i in range(classes)]})
        return folder

    return write


def _dump(path: Path, entry: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(entry, protocol=2))
