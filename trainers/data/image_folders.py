"""ImageNet and folders of images, streamed from disk through timm's loader during training."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.config import TrainConfig
from trainers.data.image_files import ENDINGS, Color, decode, has_more_frames
from trainers.data.split import Indices
from trainers.datasets import DATASETS, DataError, data_remedy, first_line, is_hidden, warn_once
from trainers.seeding import seeded

READ_FIRST = 500
"""Images of each part that are decoded before the training, evenly spread; all, if there are not more."""
START_BYTES = 4096
"""Bytes of a file that are compared before the whole."""
MAX_SHOWN = 5
"""Endings that a warning lists."""
ANIMATED = frozenset({".gif", ".png", ".webp", ".avif", ".tif", ".tiff"})
"""Endings of formats with frames or pages."""
TEST_FOLDERS = ("test", "val", "validation")


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their labels; batches come resized, augmented and normalised by timm, on one device."""

    files: tuple[Path, ...]
    labels: Tensor
    config: TrainConfig
    device: torch.device
    rows: frozenset[int] | None = None
    """Rows of each shuffled batch that are decoded, None for all; the others are black, and change no other row."""

    @property
    def background(self) -> Color:
        """Returns the colour under transparent images: the mean, which is 0 after normalization."""
        red, green, blue = (min(255, round(255 * value)) for value in self.config.mean)
        return red, green, blue

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
            _Files(self, int(torch.randint(2**62, ()))),
            input_size=(config.in_channels, config.img_size, config.img_size),
            batch_size=size,
            mean=config.normalization()[0],
            std=config.normalization()[1],
            num_workers=config.workers,
            persistent_workers=False,
            pin_memory=self.device.type == "cuda",
            device=self.device,
            **options,
        )
        if options["is_training"] and self.rows is not None:
            loader.batch_sampler.sampler = _MarkedIndices(loader.batch_sampler.sampler, size, self.rows)
        try:
            yield from loader
        except DataError as error:  # from a worker process: the text starts with its traceback
            text = str(error).strip().splitlines()[-1]
            raise DataError(text.removeprefix(f"{DataError.__module__}.DataError: ")) from None


class _MarkedIndices:
    """The indices of a sampler, with the complement `~index` in place of each whose image is not decoded."""

    def __init__(self, indices: Collection[int], batch_size: int, rows: frozenset[int]) -> None:
        self.indices, self.batch_size, self.rows = indices, batch_size, rows

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        for position, index in enumerate(self.indices):
            yield index if position % self.batch_size in self.rows else ~index


class _Files(torch.utils.data.Dataset[tuple[Any, int]]):
    """Decodes and transforms single images, or returns a black one for `~index`; timm's loader sets `transform`."""

    def __init__(self, data: ImageFiles, seed: int) -> None:
        self.files, self.labels, self.background, self.seed = data.files, data.labels.tolist(), data.background, seed
        side = data.config.img_size
        self.black = torch.zeros(data.config.in_channels, side, side, dtype=torch.uint8)
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index < 0:
            return self.black, self.labels[~index]
        with seeded(self.seed, index):
            return self.transform(decode(self.files[index], self.background)), self.labels[index]


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
            text = data_remedy(config.dataset, root) if config.dataset == "imagenet" else text
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
        empty = [name for name in classes if not _images(root / "train" / name)[0]]
        hint = f"; remove {', '.join(empty)}, which holds no images" if empty else ""
        raise DataError(f"{config.dataset}: {root / 'train'} {text}{hint}")
    return root / "train", test


def listed(config: TrainConfig, train: bool) -> ImageFiles:
    """Returns one part as a stream; reads names only. Raises DataError for missing folders and empty classes.

    Files and folders whose names begin with a dot are skipped. Warns of other files that are passed over, by ending.
    """
    folder = find(config)[0 if train else 1]
    classes = _classes(folder)
    files: list[Path] = []
    labels: list[int] = []
    passed_over = Counter(_ending(path) for path in folder.iterdir() if path.is_file() and not is_hidden(path))
    for label, name in enumerate(classes):
        found, others = _images(folder / name)
        if not found:
            raise DataError(f"{config.dataset}: {_no_images(folder / name, others)}")
        passed_over += others
        files += found
        labels += [label] * len(found)
    if passed_over:
        text = f"files passed over: {passed_over.total()} ({_counts(passed_over)}), as they are not images of a class"
        warn_once(f"{config.dataset}: {folder}: {text}")
    return ImageFiles(tuple(files), torch.tensor(labels), config, torch.device("cpu"))


def load(config: TrainConfig, train: bool) -> ImageFiles:
    """Returns one part as a stream, of which some images have been decoded. Raises DataError also for unreadable ones.

    Warns of missing classes, and of images with more than one frame.
    """
    data = checked(listed(config, train))
    folder, classes = find(config)[0 if train else 1], int(data.labels.max()) + 1
    expected = DATASETS[config.dataset].get("num_classes", classes)
    if classes < expected:
        warnings.warn(f"{config.dataset}: {folder} holds {classes} of the {expected} classes", stacklevel=2)
    return data


def checked(data: ImageFiles) -> ImageFiles:
    """Returns a stream of which some images have been decoded. Raises DataError for one that cannot be read.

    Warns of images with more than one frame.
    """
    read = [data.files[i] for i in np.unique(np.linspace(0, len(data) - 1, min(READ_FIRST, len(data)), dtype=int))]
    for path in read:
        decode(path, data.background)
    animated = [path for path in read if path.suffix.lower() in ANIMATED and has_more_frames(path)]
    if animated:
        text = f"{len(animated)} of {len(read)} images read have several frames, such as {animated[0]}"
        warn_once(f"{data.config.dataset}: {text}; only the first frame is used")
    return data


def same_files(first: ImageFiles, second: ImageFiles) -> list[tuple[Path, Path]]:
    """Returns each file of the second part that has the bytes of a file of the first, with one such file.

    Only files of equal size and equal start are read to their end. Raises DataError for files that cannot be opened.
    """
    try:
        return list(_same_files(first.files, second.files))
    except OSError as error:
        text = f"{error.filename} cannot be read as an image ({first_line(error)}); get it again or remove it"
        raise DataError(text) from None


def _same_files(first: Iterable[Path], second: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    sizes = {path.stat().st_size for path in second}
    groups: dict[tuple[int, bytes], tuple[list[Path], list[Path]]] = {}
    for part, files in enumerate((first, second)):
        for path in files:
            if (size := path.stat().st_size) in sizes:
                groups.setdefault((size, _start(path)), ([], []))[part].append(path)
    for ours, theirs in groups.values():
        known = {_digest(path): path for path in ours} if theirs else {}
        for path in theirs if known else ():
            if (digest := _digest(path)) in known:
                yield path, known[digest]


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(START_BYTES)).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Returns the image files below a folder in the order of their paths, and the number of other files by ending."""
    found, others = [], Counter[str]()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if links := sum(Path(parent, name).is_symlink() for name in folders):
            others["links to folders"] += links
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in ENDINGS:
                found.append(path)
            else:
                others[_ending(path)] += 1
    return sorted(found), others


def _ending(path: Path) -> str:
    return path.suffix.lower() or "without ending"


def _counts(endings: Counter[str]) -> str:
    """Returns the most frequent endings with the numbers of their files, `.txt 3, .npy 1`."""
    shown = [f"{ending} {count}" for ending, count in sorted(endings.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join([*shown[:MAX_SHOWN], *(["..."] if len(shown) > MAX_SHOWN else [])])


def _no_images(folder: Path, others: Counter[str]) -> str:
    known = f"it holds other files ({_counts(others)}); known endings: {' '.join(sorted(ENDINGS))}"
    remedy = f"put images there, or remove the folder {folder.name} from every part and lower num_classes"
    return f"{folder} holds no images; {known if others else remedy}"


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path))
