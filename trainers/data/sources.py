"""Registry of data sets by name, the validation split, and sharing between processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainers.config import TrainConfig
from trainers.data import cifar, digits, event_sets, image_folders
from trainers.data.split import Data, Split, stratified
from trainers.datasets import DATASETS, TRAIN_IMAGES, DataError

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Source:
    """Loader of one data set, and a cheap check that its files are present.

    `load(config, True)` returns the training part, `load(config, False)` the test part. `check(config)` reads file
    names only. Both raise DataError.
    """

    load: Callable[[TrainConfig, bool], Data]
    check: Callable[[TrainConfig], object] = lambda config: None


SOURCES: dict[str, Source] = {
    "digits": Source(digits.load),
    "digits_dvs": Source(digits.load_events),
    "cifar10": Source(cifar.load, cifar.find),
    "cifar100": Source(cifar.load, cifar.find),
    "imagenet": Source(image_folders.load, image_folders.find),
    "imagefolder": Source(image_folders.load, image_folders.find),
    "cifar10_dvs": Source(event_sets.load, event_sets.find),
    "dvs128_gesture": Source(event_sets.load, event_sets.find),
    "n_caltech101": Source(event_sets.load, event_sets.find),
}


def load_train(config: TrainConfig) -> tuple[Data, Data]:
    """Returns the training and the validation part of the training data; the latter is empty at val_fraction 0.

    Raises DataError if files are missing or cannot be read.
    """
    whole = SOURCES[config.dataset].load(config, True)
    chosen = stratified(whole.labels.numpy(), config.val_fraction, config.split_seed)
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    if not len(rest):
        raise DataError(f"{config.dataset}: val_fraction={config.val_fraction} leaves no image to train on")
    return whole.take(rest), whole.take(chosen)


def load_test(config: TrainConfig) -> Data:
    """Returns the test set, which only a final evaluation may read."""
    return SOURCES[config.dataset].load(config, False)


def check_present(config: TrainConfig) -> None:
    """Raises DataError if the data set's files are missing; does not read them."""
    SOURCES[config.dataset].check(config)


def register(name: str, source: Source, info: dict[str, Any], train_images: int) -> None:
    """Registers your own data set, which `source` loads into Splits of uint8 images.

    `info` holds the train file's keys that the data set determines; `img_size`, `in_channels`, `mean` and `std` are
    required. `train_images` is the size of the training part. Call it when your package is imported (`--import`).
    Raises ValueError for a registered name and for missing keys.
    """
    if name in SOURCES:
        raise ValueError(f"the data set {name} is registered already")
    if missing := {"img_size", "in_channels", "mean", "std"} - info.keys():
        raise ValueError(f"the info of the data set {name} lacks {', '.join(sorted(missing))}")
    SOURCES[name], DATASETS[name], TRAIN_IMAGES[name] = source, info, train_images


def to_arrays(parts: tuple[Data, Data]) -> Arrays:
    """Returns the images and labels of both parts as CPU arrays, which processes can share."""
    splits = [part for part in parts if isinstance(part, Split)]
    assert len(splits) == 2, "streamed data is not shared"
    return tuple(tensor.numpy() for split in splits for tensor in (split.images, split.labels))


def from_arrays(arrays: Arrays) -> tuple[Split, Split]:
    """Returns both parts without a copy. The arrays may be read-only: a training does not write into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        images, labels, val_images, val_labels = (torch.from_numpy(array) for array in arrays)
    return Split(images, labels), Split(val_images, val_labels)
