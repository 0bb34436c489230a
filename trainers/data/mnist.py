"""MNIST and Fashion-MNIST in their published IDX files, named as in torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainers.config import TrainConfig
from trainers.data.split import Split
from trainers.datasets import DATASETS, TRAIN_IMAGES, DataError, data_remedy, first_line, warn_once

NAMES = {"mnist": "MNIST", "smnist": "MNIST", "psmnist": "MNIST", "fashion_mnist": "FashionMNIST"}
"""Torchvision's class of each data set, and the name of its folder."""
RAW = "raw"
PARTS = {True: "train", False: "t10k"}
TEST_IMAGES = 10_000


def file_names(train: bool) -> tuple[str, str]:
    """Returns the names of the files with the images and the labels of one part."""
    return f"{PARTS[train]}-images-idx3-ubyte", f"{PARTS[train]}-labels-idx1-ubyte"


def find(config: TrainConfig) -> Path:
    """Returns the folder of the files, `MNIST/raw`; data_dir may name it or one of its parents. Raises DataError."""
    name, root = NAMES[config.dataset], Path(config.data_dir or "data")
    root = root.parent if root.name == RAW and root.parent.name == name else root
    root = root.parent if root.name == name else root
    folder = root / name / RAW
    missing = [file for train in PARTS for file in file_names(train) if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{config.dataset}: {folder} lacks {', '.join(missing)}; {data_remedy(config.dataset, root)}")
    return folder


def load(config: TrainConfig, train: bool) -> Split:
    """Returns images [M, 1, 28, 28] and labels of one part. Raises DataError; warns of fewer images than published."""
    folder = find(config)
    try:
        data = _read(folder, train, DATASETS[config.dataset]["num_classes"])
    except Exception as error:  # damaged files raise errors of many types
        text = f"a file in {folder} cannot be read ({first_line(error)})"
        remedy = data_remedy(config.dataset, folder.parent.parent)
        raise DataError(f"{config.dataset}: {text}; remove {', '.join(file_names(train))}, and {remedy}") from error
    published = TRAIN_IMAGES[config.dataset] if train else TEST_IMAGES
    if len(data) < published:
        warn_once(f"{config.dataset}: {folder} holds {len(data):,} of the {published:,} published images")
    return data


def _read(folder: Path, train: bool, num_classes: int) -> Split:
    """Returns one part. Raises ValueError, and what torchvision raises, for contents of a wrong type or size."""
    images_file, labels_file = (folder / name for name in file_names(train))
    images, labels = _read_idx(images_file), _read_idx(labels_file)
    if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(f"{images_file.name} must hold images of 28 x 28 bytes (got {list(images.shape)})")
    if labels.dtype != torch.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(f"{labels_file.name} must hold {len(images)} labels (got {list(labels.shape)})")
    if not bool((labels < num_classes).all()):
        raise ValueError(f"{labels_file.name} must hold labels from 0 to {num_classes - 1}")
    return Split(images[:, None], labels.long())


def _read_idx(path: Path) -> Any:
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        return read_sn3_pascalvincent_tensor(str(path))
    except Exception as error:
        raise ValueError(f"{path.name} is no complete IDX file") from error
