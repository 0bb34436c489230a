"""From a train file to its data: every data set by name, the validation split, and what is said where files lack."""

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

__all__ = [
    "Data",
    "DataError",
    "Split",
    "check_present",
    "from_arrays",
    "load_test",
    "load_train",
    "register",
    "stratified",
    "to_arrays",
]

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Source:
    """How one data set is read, and how one sees cheaply that its files are there.

    `load(config, True)` returns the training part, `load(config, False)` the test part. Both functions raise
    DataError; `check` does not read more than names.
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

    Raises DataError, in one sentence, when files are missing or cannot be read.
    """
    whole = SOURCES[config.dataset].load(config, True)
    chosen = stratified(whole.labels.numpy(), config.val_fraction, config.split_seed)
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    if not len(rest):
        raise DataError(f"{config.dataset}: val_fraction={config.val_fraction} leaves no image to train on")
    return whole.take(rest), whole.take(chosen)


def load_test(config: TrainConfig) -> Data:
    """Returns the test set, which nothing but a final evaluation may read."""
    return SOURCES[config.dataset].load(config, False)


def check_present(config: TrainConfig) -> None:
    """Raises DataError when the data set's files are not there, without reading them."""
    SOURCES[config.dataset].check(config)


def register(name: str, source: Source, facts: dict[str, Any], train_images: int) -> None:
    """Adds a user's own data set, read by `source` into a Split of uint8 images, with its facts as in DATASETS.

    A package named with `--import` does this when it is imported. A name that is taken raises ValueError, as do facts
    without `img_size`, `in_channels`, `mean` or `std`.
    """
    if name in SOURCES:
        raise ValueError(f"the data set {name} is registered already")
    if missing := {"img_size", "in_channels", "mean", "std"} - facts.keys():
        raise ValueError(f"the facts of the data set {name} lack {', '.join(sorted(missing))}")
    SOURCES[name], DATASETS[name], TRAIN_IMAGES[name] = source, facts, train_images


def to_arrays(parts: tuple[Data, Data]) -> Arrays:
    """Returns the images and labels of both parts as arrays on the CPU, to be shared between processes."""
    splits = [part for part in parts if isinstance(part, Split)]
    assert len(splits) == 2, "streamed data is not shared"
    return tuple(tensor.numpy() for split in splits for tensor in (split.images, split.labels))


def from_arrays(arrays: Arrays) -> tuple[Split, Split]:
    """Returns both parts without a copy. The arrays may be read-only: no part of a training writes into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        images, labels, val_images, val_labels = (torch.from_numpy(array) for array in arrays)
    return Split(images, labels), Split(val_images, val_labels)
