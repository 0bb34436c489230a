"""Spiking Heidelberg Digits (Cramer et al. 2020): spoken digits as spikes of 700 channels, in its published HDF5 files.

The channels are one row, as the stem `sequential_embed` reads it. It is stored as a map of img_size x img_size pixels
in row order, so that it passes through the trainer like event frames: [T, 1, H, W].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.config import TrainConfig
from trainers.data.archives import UNPACKED
from trainers.data.split import Split
from trainers.datasets import DATASETS, DataError, data_remedy, first_line, warn_once

CHANNELS = 700
PUBLISHED = {True: 8_156, False: 2_264}
FILES = {True: "shd_train.h5", False: "shd_test.h5"}
FOLDERS = (".", UNPACKED, "events_h5")
"""Folders below data_dir that may hold the files; the last two are SpikingJelly's."""

Array = np.ndarray[Any, Any]


def find(config: TrainConfig) -> Path:
    """Returns the folder of the two files. Raises DataError."""
    root = Path(config.data_dir or "data")
    for folder in (root / name for name in FOLDERS):
        if all((folder / name).is_file() for name in FILES.values()):
            return folder
    missing = [name for name in FILES.values() if not (root / name).is_file()]
    raise DataError(f"{config.dataset}: {root} lacks {', '.join(missing)}; {data_remedy(config.dataset, root)}")


def load(config: TrainConfig, train: bool) -> Split:
    """Returns counts [M, step, 1, img_size, img_size] of one part. Raises DataError; warns of fewer than published."""
    import h5py

    path = find(config) / FILES[train]
    try:
        with h5py.File(path) as file:
            labels = np.asarray(file["labels"]).astype(np.int64)
            times, units = file["spikes"]["times"], file["spikes"]["units"]
            if not len(labels) == len(times) == len(units):
                raise ValueError(f"{len(labels)} labels of {len(times)} and {len(units)} recordings")
            rows = [frames(times[i], units[i], config.step, config.img_size**2) for i in range(len(labels))]
    except Exception as error:  # h5py raises errors of many types
        remedy = f"remove {path.name}, and {data_remedy(config.dataset, path.parent)}"
        raise DataError(f"{config.dataset}: {path} cannot be read ({first_line(error)}); {remedy}") from error
    classes = DATASETS[config.dataset]["num_classes"]
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{config.dataset}: {path} must hold samples of classes 0 to {classes - 1}")
    if len(labels) < PUBLISHED[train]:
        warn_once(f"{config.dataset}: {path} holds {len(labels):,} of the {PUBLISHED[train]:,} published samples")
    counts = torch.from_numpy(np.stack(rows))
    if int(counts.max()) <= torch.iinfo(torch.uint8).max:
        counts = counts.to(torch.uint8)
    side = config.img_size
    return Split(counts.view(len(labels), config.step, 1, side, side), torch.from_numpy(labels))


def frames(times: Array, units: Array, count: int, places: int) -> Array:
    """Returns counts [count, places] as int32: frames of equal duration from the first spike to the last.

    With fewer places than channels, neighbouring channels share one; further places stay empty. Raises ValueError for
    no spikes, and for channels that do not exist.
    """
    if not len(times) == len(units) or not len(times):
        raise ValueError(f"{len(times)} times and {len(units)} channels of a sample")
    seconds, channel = times.astype(np.float64), units.astype(np.int64)
    if not (np.isfinite(seconds).all() and 0 <= channel.min() <= channel.max() < CHANNELS):
        raise ValueError(f"spikes at times that are no numbers, or of channels other than 0 to {CHANNELS - 1}")
    start, duration = seconds.min(), max(np.ptp(seconds), np.finfo(np.float64).tiny)
    frame = np.minimum(((seconds - start) / duration * count).astype(np.int64), count - 1)
    place = channel * min(places, CHANNELS) // CHANNELS
    counts = np.bincount(frame * places + place, minlength=count * places)
    return counts.astype(np.int32).reshape(count, places)
