"""CIFAR-10 and CIFAR-100 in their published files (the python version), named as in torchvision."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.config import TrainConfig
from trainers.data.split import Split
from trainers.datasets import DATASETS, DataError, first_line

ARRAY_PARTS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class _Cifar:
    """Names of the files, and torchvision's class."""

    folder: str
    archive: str
    files: tuple[str, ...]
    dataset: str


_CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_CIFAR = {
    "cifar10": _Cifar("cifar-10-batches-py", "cifar-10-python.tar.gz", _CIFAR10_FILES, "CIFAR10"),
    "cifar100": _Cifar("cifar-100-python", "cifar-100-python.tar.gz", ("train", "test", "meta"), "CIFAR100"),
}


def find(config: TrainConfig) -> Path:
    """Returns the folder that holds the data set's folder; data_dir may name either. Raises DataError."""
    info = _CIFAR[config.dataset]
    root = Path(config.data_dir or "data")
    root = root.parent if root.name == info.folder else root
    missing = [name for name in info.files if not (root / info.folder / name).is_file()]
    if missing:
        raise DataError(
            f"{config.dataset}: {root / info.folder} lacks {', '.join(missing)}; unpack {info.archive} "
            f"(the python version) in {root}, or name its folder with data_dir"
        )
    return root


def load(config: TrainConfig, train: bool) -> Split:
    """Returns the training or the test part. Raises DataError; warns of MD5 sums that differ."""
    import torchvision

    info = _CIFAR[config.dataset]
    folder = find(config) / info.folder
    published = getattr(torchvision.datasets, info.dataset)
    sums = dict(published.train_list if train else published.test_list)
    if not all(torchvision.datasets.utils.check_integrity(folder / name, md5) for name, md5 in sums.items()):
        warnings.warn(f"{config.dataset}: files in {folder} differ from the published ones (MD5)", stacklevel=2)
    try:
        parts = [_read(folder / name, DATASETS[config.dataset]["num_classes"]) for name in sums]
    except Exception as error:  # unpickling a damaged file raises errors of many types
        text = f"a file in {folder} cannot be read ({first_line(error)}); unpack {info.archive} again"
        raise DataError(f"{config.dataset}: {text}") from error
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


class _Arrays(pickle.Unpickler):
    """Unpickles plain values and numpy's arrays, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy.core", "numpy._core"), name) not in ARRAY_PARTS:
            raise ValueError(f"holds {module}.{name}, which is no array")
        return super().find_class(module, name)


def _read(path: Path, num_classes: int) -> Split:
    """Returns one pickled batch; the published files have text keys (of Python 2), others may have byte keys."""
    with path.open("rb") as file:
        raw = _Arrays(file, encoding="latin1").load()
    entry = {key.decode() if isinstance(key, bytes) else key: value for key, value in raw.items()}
    images = torch.from_numpy(entry["data"]).view(-1, 3, 32, 32)
    labels = torch.tensor(entry["labels" if "labels" in entry else "fine_labels"], dtype=torch.int64)
    if images.dtype != torch.uint8 or len(images) != len(labels):
        raise ValueError(f"{path.name} must hold as many labels as images of 3072 bytes")
    if not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(f"{path.name} must hold labels from 0 to {num_classes - 1}")
    return Split(images, labels)
