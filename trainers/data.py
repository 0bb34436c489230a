"""Data sets as uint8 tensors, their validation split, and what is said where files are missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.config import TrainConfig

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
    return whole.take(rest), whole.take(chosen)


def load_test(config: TrainConfig) -> Split:
    """Returns the test set, which nothing but a final evaluation may read."""
    return LOADERS[config.dataset](config, False)


def stratified(labels: np.ndarray[Any, Any], share: float, seed: int) -> np.ndarray[Any, Any]:
    """Returns the indices of `share` of the samples of each class, rounded, drawn by `seed` alone."""
    generator = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        parts.append(members[: round(share * len(members))])
    return np.concatenate(parts)


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
    root = _cifar_folder(config)

    class Present(getattr(torchvision.datasets, facts.dataset)):  # type: ignore[misc]
        def _check_integrity(self) -> bool:
            if not super()._check_integrity():
                text = f"{config.dataset}: files in {root / facts.folder} differ from the published ones (MD5)"
                warnings.warn(text, stacklevel=2)
            return True

    try:
        loaded = Present(str(root), train=train, download=False)
    except Exception as error:  # whatever unpickling a damaged file raises
        raise DataError(
            f"{config.dataset}: a file in {root / facts.folder} cannot be read ({type(error).__name__}: {error}); "
            f"unpack {facts.archive} again"
        ) from error
    images = torch.from_numpy(np.ascontiguousarray(loaded.data.transpose(0, 3, 1, 2)))
    return Split(images, torch.tensor(loaded.targets, dtype=torch.int64))


LOADERS: dict[str, Callable[[TrainConfig, bool], Split]] = {"digits": _digits, "cifar10": _cifar, "cifar100": _cifar}
"""From a data set's name to what reads it; `True` asks for the training part, `False` for the test part."""
