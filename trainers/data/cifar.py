"""CIFAR-10 and CIFAR-100 in their published files (the python version), named as in torchvision."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from trainers.config import TrainConfig
from trainers.data.split import Split
from trainers.datasets import DATASETS, FILES_OF, DataError, data_remedy, first_line

ARRAY_PARTS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}
"""All that the pickle of a numpy array needs; the module names are numpy 2's."""


def _published(config: TrainConfig) -> Any:
    """Returns torchvision's class of the data set, which lists the files and their MD5 sums."""
    import torchvision

    return getattr(torchvision.datasets, FILES_OF.get(config.dataset, config.dataset).upper())


def find(config: TrainConfig) -> Path:
    """Returns the folder that holds the data set's folder; data_dir may name either. Raises DataError."""
    published = _published(config)
    root = Path(config.data_dir or "data")
    root = root.parent if root.name == published.base_folder else root
    folder = root / published.base_folder
    names = [name for name, _ in (*published.train_list, *published.test_list)] + [published.meta["filename"]]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{config.dataset}: {folder} lacks {', '.join(missing)}; {data_remedy(config.dataset, root)}")
    return root


def load(config: TrainConfig, train: bool) -> Split:
    """Returns the training or the test part. Raises DataError; warns of MD5 sums that differ."""
    from torchvision.datasets.utils import check_integrity

    published = _published(config)
    folder = find(config) / published.base_folder
    sums = dict(published.train_list if train else published.test_list)
    if not all(check_integrity(folder / name, md5) for name, md5 in sums.items()):
        warnings.warn(f"{config.dataset}: files in {folder} differ from the published ones (MD5)", stacklevel=2)
    try:
        parts = [_read(folder / name, DATASETS[config.dataset]["num_classes"]) for name in sums]
    except Exception as error:  # unpickling a damaged file raises errors of many types
        text = f"a file in {folder} cannot be read ({first_line(error)}); unpack {published.filename} again"
        raise DataError(f"{config.dataset}: {text}") from error
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


class _Arrays(pickle.Unpickler):
    """Unpickles plain values and numpy's arrays, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy.core", "numpy._core"), name) not in ARRAY_PARTS:
            raise ValueError(f"holds {module}.{name}, which is not an array")
        return super().find_class(module, name)


def _read(path: Path, num_classes: int) -> Split:
    """Returns one pickled batch, whose keys may be text (as published) or bytes."""
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
