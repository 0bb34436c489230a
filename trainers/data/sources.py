"""Registry of data sets by name, the validation split, and sharing between processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainers.config import TrainConfig
from trainers.data import cifar, digits, image_folders, image_sets, mnist
from trainers.data.events import es_imagenet, shd
from trainers.data.events import sets as event_sets
from trainers.data.image_folders import ImageFiles, same_files
from trainers.data.split import Data, Indices, Split, num_shared, reduced, stratified, stratified_sample
from trainers.datasets import DATASETS, EVENTS, FILES_OF, LISTED, TRAIN_IMAGES, DataError, warn_once
from trainers.diagnostics.health import chance_level

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Source:
    """Loader of one data set, and a cheap check that its files are present.

    `load(config, True)` returns the training part, `load(config, False)` the test part. `check(config)` reads file
    names, or little more. Both raise DataError.
    """

    load: Callable[[TrainConfig, bool], Data]
    check: Callable[[TrainConfig], object] = lambda config: None


PUBLISHED_IMAGES = (
    LISTED | FILES_OF.keys() | {"digits", "digits_dvs", "cifar10", "cifar100", "mnist", "fashion_mnist", "imagenet"}
)
"""Data sets in which equal samples, if any, are part of what was published."""


def _check_folders(config: TrainConfig) -> None:
    """Raises DataError for missing folders and empty classes; warns of all that the files' names and bytes show."""
    _split(config, image_folders.listed(config, True))
    image_folders.listed(config, False)


SOURCES: dict[str, Source] = {
    "digits": Source(digits.load),
    "digits_dvs": Source(digits.load_events),
    "cifar10": Source(cifar.load, cifar.find),
    "cifar100": Source(cifar.load, cifar.find),
    "mnist": Source(mnist.load, mnist.find),
    "fashion_mnist": Source(mnist.load, mnist.find),
    "smnist": Source(mnist.load, mnist.find),
    "psmnist": Source(mnist.load, mnist.find),
    "scifar10": Source(cifar.load, cifar.find),
    "imagenet": Source(image_folders.load, image_folders.find),
    "imagefolder": Source(image_folders.load, _check_folders),
    "cifar10_dvs": Source(event_sets.load, event_sets.find),
    "dvs128_gesture": Source(event_sets.load, event_sets.find),
    "n_caltech101": Source(event_sets.load, event_sets.find),
    "n_mnist": Source(event_sets.load, event_sets.find),
    "hardvs": Source(event_sets.load, event_sets.find),
    "es_imagenet": Source(es_imagenet.load, es_imagenet.find),
    "shd": Source(shd.load, shd.find),
    **dict.fromkeys(sorted(LISTED), Source(image_sets.load, image_sets.find)),
}


def load_train(config: TrainConfig) -> tuple[Data, Data]:
    """Returns the training and the validation part of the training data; the latter is empty at val_fraction 0.

    Raises DataError if files are missing or cannot be read.
    """
    return _split(config, _load(config, True))


def _load(config: TrainConfig, train: bool) -> Data:
    """Returns one part. Raises DataError for samples in memory that the training would misread.

    Images in memory that are larger than img_size are reduced to it. Smaller ones are enlarged batch by batch.
    """
    data = SOURCES[config.dataset].load(config, train)
    if isinstance(data, Split):
        images, labels = data.images, data.labels
        if config.dataset not in EVENTS and (images.dtype != torch.uint8 or images.shape[1:2] != (config.in_channels,)):
            got = f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
            text = f"images must be uint8 [M, {config.in_channels}, H, W], 0 to 255 (got {got})"
            raise DataError(f"{config.dataset}: {text}; convert them in its loader")
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
        if labels.dtype != torch.int64 or len(labels) != len(images) or not 0 <= low <= high < config.num_classes:
            got = f"{len(labels)} {str(labels.dtype).removeprefix('torch.')} from {low} to {high}"
            text = (
                f"labels must be {len(images)} int64 from 0 to num_classes - 1 = {config.num_classes - 1} (got {got})"
            )
            raise DataError(f"{config.dataset}: {text}")
        if config.dataset not in EVENTS:
            data = Split(reduced(images, config.img_size), labels)
    return data


def _split(config: TrainConfig, whole: Data) -> tuple[Data, Data]:
    """Returns the training and the validation part. Warns of samples in both, and of parts too small to measure.

    The validation part does not depend on train_images.
    """
    chosen = stratified(whole.labels.numpy(), config.val_fraction, config.split_seed)
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    if not len(rest):
        raise DataError(f"{config.dataset}: val_fraction={config.val_fraction} leaves no image to train on")
    train, validation = whole.take(_training_part(config, whole.labels.numpy(), rest)), whole.take(chosen)
    if config.dataset not in PUBLISHED_IMAGES:
        _warn_of_copies(config, train, validation)
    counts = np.bincount(validation.labels.numpy()).tolist()
    if counts and chance_level(counts) >= 100.0:
        text = f"the validation part has {len(validation)} samples, {max(counts)} of them of one class"
        remedy = "too few to tell any accuracy from a guess; set a larger val_fraction, or add data"
        warn_once(f"{config.dataset}: {text}: {remedy}")
    return train, validation


def _training_part(config: TrainConfig, labels: Indices, rest: Indices) -> Indices:
    """Returns train_images of the indices that validation leaves. Raises DataError if these are fewer."""
    if config.train_images is None:
        return rest
    if config.train_images > len(rest):
        text = f"train_images must be at most the {len(rest):,} images that val_fraction={config.val_fraction} leaves"
        raise DataError(f"{config.dataset}: {text} (got {config.train_images}); lower it, or leave it out")
    return rest[stratified_sample(labels[rest], config.train_images, config.split_seed)]


def _warn_of_copies(config: TrainConfig, train: Data, validation: Data) -> None:
    """Warns of samples in the validation part that are in the training part as well, bit by bit."""
    count, example = 0, ""
    if isinstance(train, Split) and isinstance(validation, Split):
        count = num_shared(train, validation)
    elif isinstance(train, ImageFiles) and isinstance(validation, ImageFiles):
        pairs = same_files(train, validation)
        count, example = len(pairs), f", such as {pairs[0][0]} = {pairs[0][1]}" if pairs else ""
    if count:
        text = f"{count} of {len(validation)} validation samples are in the training part too{example}"
        warn_once(f"{config.dataset}: {text}; remove the copies, with them accuracy is too high")


def load_test(config: TrainConfig) -> Data:
    """Returns the test set, which only a final evaluation may read."""
    return _load(config, False)


def check_present(config: TrainConfig) -> None:
    """Raises DataError if the data set's files are missing; does not decode them."""
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
