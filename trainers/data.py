"""Data sets as uint8 tensors, their validation split, and what is said where files are missing."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.config import DATASETS, TrainConfig

DIGITS_TEST_SHARE = 297 / 1797
DIGITS_SPLIT_SEED = 1797


class DataError(RuntimeError):
    """The data set's files are missing or damaged; the text says what to put where."""


@dataclass(frozen=True)
class Split:
    """Images [M, C, H, W] as uint8 and labels [M], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray[Any, Any]) -> Split:
        chosen = torch.from_numpy(np.sort(index))
        return Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


def load_train(config: TrainConfig) -> tuple[Split, Split]:
    """Returns the training and the validation part of the training data; the latter is empty at val_fraction 0.

    Raises DataError, in one sentence, when files are missing or cannot be read.
    """
    whole = LOADERS[config.dataset](config, True)
    chosen = stratified(whole.labels.numpy(), config.val_fraction, config.split_seed)
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    if not len(rest):
        raise DataError(f"{config.dataset}: val_fraction={config.val_fraction} leaves no image to train on")
    return whole.take(rest), whole.take(chosen)


def load_test(config: TrainConfig) -> Split:
    """Returns the test set, which nothing but a final evaluation may read."""
    return LOADERS[config.dataset](config, False)


def stratified(labels: np.ndarray[Any, Any], share: float, seed: int) -> np.ndarray[Any, Any]:
    """Returns the indices of `share` of the samples of each class, rounded, drawn by `seed` alone.

    Where the classes are so small that each would give none, the share is drawn from all of them together.
    """
    generator = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        parts.append(members[: round(share * len(members))])
    chosen = np.concatenate(parts)
    if len(chosen) or share == 0.0:
        return chosen
    return generator.permutation(len(labels))[: max(1, round(share * len(labels)))]


def check_present(config: TrainConfig) -> None:
    """Raises DataError when the data set's files are not there, without reading all of them."""
    if config.dataset in _CIFAR:
        _cifar_folder(config)


def _digits(config: TrainConfig, train: bool) -> Split:
    """Scikit-learn's 1797 handwritten digits, 8x8: 297 for testing by a fixed stratified draw, 1500 for training."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    test = stratified(labels, DIGITS_TEST_SHARE, DIGITS_SPLIT_SEED)
    chosen = np.setdiff1d(np.arange(len(labels)), test) if train else test
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))).take(chosen)


@dataclass(frozen=True)
class _Cifar:
    """Where torchvision looks, and what the files are called."""

    folder: str
    archive: str
    files: tuple[str, ...]
    dataset: str


_CIFAR = {
    "cifar10": _Cifar(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        "CIFAR10",
    ),
    "cifar100": _Cifar("cifar-100-python", "cifar-100-python.tar.gz", ("train", "test", "meta"), "CIFAR100"),
}


def _cifar_folder(config: TrainConfig) -> Path:
    """Returns the folder that holds the data set's own folder; data_dir may name either."""
    facts = _CIFAR[config.dataset]
    root = Path(config.data_dir or "data")
    root = root.parent if root.name == facts.folder else root
    missing = [name for name in facts.files if not (root / facts.folder / name).is_file()]
    if missing:
        raise DataError(
            f"{config.dataset}: {root / facts.folder} lacks {', '.join(missing)}; unpack {facts.archive} "
            f"(the python version) in {root}, or name its folder with data_dir"
        )
    return root


def _cifar(config: TrainConfig, train: bool) -> Split:
    import torchvision

    facts = _CIFAR[config.dataset]
    folder = _cifar_folder(config) / facts.folder
    published = getattr(torchvision.datasets, facts.dataset)
    sums = dict(published.train_list if train else published.test_list)
    if not all(torchvision.datasets.utils.check_integrity(folder / name, md5) for name, md5 in sums.items()):
        warnings.warn(f"{config.dataset}: files in {folder} differ from the published ones (MD5)", stacklevel=2)
    try:
        parts = [_read_cifar(folder / name, DATASETS[config.dataset]["num_classes"]) for name in sums]
    except Exception as error:  # whatever unpickling a damaged file raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{config.dataset}: a file in {folder} cannot be read ({reason}); unpack {facts.archive} again"
        ) from error
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _read_cifar(path: Path, num_classes: int) -> Split:
    """Returns one pickled batch; the published files have text keys (of Python 2), others may have byte keys."""
    with path.open("rb") as file:
        raw = pickle.load(file, encoding="latin1")
    entry = {key.decode() if isinstance(key, bytes) else key: value for key, value in raw.items()}
    images = torch.from_numpy(entry["data"]).view(-1, 3, 32, 32)
    labels = torch.tensor(entry["labels" if "labels" in entry else "fine_labels"], dtype=torch.int64)
    if images.dtype != torch.uint8 or len(images) != len(labels):
        raise ValueError(f"{path.name} must hold as many labels as images of 3072 bytes")
    if not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(f"{path.name} must hold labels from 0 to {num_classes - 1}")
    return Split(images, labels)


LOADERS: dict[str, Callable[[TrainConfig, bool], Split]] = {"digits": _digits, "cifar10": _cifar, "cifar100": _cifar}
"""From a data set's name to what reads it; `True` asks for the training part, `False` for the test part."""
