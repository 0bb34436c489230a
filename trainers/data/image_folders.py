"""ImageNet and folders of images, streamed from disk through timm's loader during training."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainers.config import TrainConfig
from trainers.data.split import Indices
from trainers.datasets import DATASETS, DataError, first_line
from trainers.seeding import seeded

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"})
READ_FIRST = 500
"""Images of each part that are decoded before the training, evenly spread; all, if there are not more."""
TEST_FOLDERS = ("test", "val", "validation")


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their labels; batches come resized, augmented and normalised by timm, on one device."""

    files: tuple[Path, ...]
    labels: Tensor
    config: TrainConfig
    device: torch.device

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Indices) -> ImageFiles:
        chosen = np.sort(index)
        return dataclasses.replace(self, files=tuple(self.files[i] for i in chosen), labels=self.labels[chosen])

    def to(self, device: torch.device) -> ImageFiles:
        return dataclasses.replace(self, device=device)

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        config = self.config
        return self._batches(
            size,
            is_training=True,
            no_aug=False,
            scale=config.scale,
            ratio=config.ratio,
            hflip=config.hflip,
            color_jitter=config.color_jitter or None,
            auto_augment=config.aa,
            re_prob=config.reprob,
            re_mode=config.remode,
            interpolation=config.train_interpolation,
        )

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self._batches(
            size, is_training=False, crop_pct=self.config.crop_pct, interpolation=self.config.interpolation
        )

    def _batches(self, size: int, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields timm's batches. Each image has its own seed, so results do not depend on the number of workers."""
        from timm.data import create_loader

        config = self.config
        loader = create_loader(
            _Files(self.files, self.labels.tolist(), int(torch.randint(2**62, ()))),
            input_size=(config.in_channels, config.img_size, config.img_size),
            batch_size=size,
            mean=config.mean,
            std=config.std,
            num_workers=config.workers,
            persistent_workers=False,
            pin_memory=self.device.type == "cuda",
            device=self.device,
            **options,
        )
        try:
            yield from loader
        except DataError as error:  # from a worker process: the text starts with its traceback
            text = str(error).strip().splitlines()[-1]
            raise DataError(text.removeprefix(f"{DataError.__module__}.DataError: ")) from None


class _Files(torch.utils.data.Dataset[tuple[Any, int]]):
    """Decodes and transforms single images; timm's loader sets `transform`."""

    def __init__(self, files: tuple[Path, ...], labels: list[int], seed: int) -> None:
        self.files, self.labels, self.seed = files, labels, seed
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with seeded(self.seed, index):
            return self.transform(decode(self.files[index])), self.labels[index]


def decode(path: Path) -> Image.Image:
    """Returns the image in RGB. Raises DataError, naming the file, if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        text = f"{path} cannot be read as an image ({first_line(error)}); get it again or remove it"
        raise DataError(text) from error


def find(config: TrainConfig) -> tuple[Path, Path]:
    """Returns the folders of the training and the test part. Raises DataError; reads no image.

    The test part is in `test`, `val` or `validation`; for ImageNet in `val`, as its test part has no labels. Classes
    are the folders' names in alphabetical order.
    """
    root = Path(config.data_dir or "data")
    candidates = ("val",) if config.dataset == "imagenet" else TEST_FOLDERS
    test = next((root / name for name in candidates if (root / name).is_dir()), root / "val")
    for folder in (root / "train", test):
        if not folder.is_dir():
            text = f"put one folder per class into {root}/train and {root}/val, or name their folder with data_dir"
            raise DataError(f"{config.dataset}: {folder} is missing; {text}")
    classes, tested = _classes(root / "train"), _classes(test)
    unknown = sorted(set(tested) - set(classes))
    if unknown:
        raise DataError(f"{config.dataset}: {test} holds {unknown[0]}, which is not a folder of {root / 'train'}")
    missing = sorted(set(classes) - set(tested))
    if missing:
        names = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise DataError(f"{config.dataset}: {test} lacks {names}, a folder of {root / 'train'}")
    expected, found = DATASETS[config.dataset].get("num_classes"), len(classes)
    if found > config.num_classes or (expected is None and found != config.num_classes):
        text = f"holds {found} folders, one per class, which is not num_classes={config.num_classes}"
        raise DataError(f"{config.dataset}: {root / 'train'} {text}")
    return root / "train", test


def load(config: TrainConfig, train: bool) -> ImageFiles:
    """Returns one part as a stream. Raises DataError for missing folders, empty classes and unreadable images."""
    folder = find(config)[0 if train else 1]
    classes = _classes(folder)
    expected = DATASETS[config.dataset].get("num_classes", len(classes))
    if len(classes) < expected:
        warnings.warn(f"{config.dataset}: {folder} holds {len(classes)} of the {expected} classes", stacklevel=2)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in ENDINGS)
        if not found:
            raise DataError(f"{config.dataset}: {folder / name} holds no images ({', '.join(sorted(ENDINGS))})")
        files += found
        labels += [label] * len(found)
    for i in np.unique(np.linspace(0, len(files) - 1, min(READ_FIRST, len(files)), dtype=int)):
        decode(files[i])
    return ImageFiles(tuple(files), torch.tensor(labels), config, torch.device("cpu"))


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
