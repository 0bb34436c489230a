"""Example data set: noisy stripes in four directions, generated here instead of read from files."""

from __future__ import annotations

import numpy as np
import torch

from trainers.config import TrainConfig
from trainers.data import Split

INFO = {"num_classes": 4, "img_size": 8, "in_channels": 1, "mean": (0.5,), "std": (0.4,), "hflip": 0.0}
IMAGES = {True: 600, False: 200}


def load(config: TrainConfig, train: bool) -> Split:
    """Returns the training or the test part, equal at every call."""
    generator = np.random.default_rng(1 if train else 2)
    labels = np.arange(IMAGES[train]) % 4
    y, x = np.mgrid[:8, :8]
    along = np.stack([x, y, x + y, x - y])[labels]
    phase = generator.integers(0, 4, (len(labels), 1, 1))
    bright = ((along + phase) % 4 < 2).astype(float)
    noisy = np.clip(bright + generator.normal(0.0, 0.25, bright.shape), 0.0, 1.0)
    images = torch.from_numpy(np.rint(255 * noisy).astype(np.uint8))[:, None]
    return Split(images, torch.from_numpy(labels.astype(np.int64)))
