"""Images whose parts and classes are given by lists: CUB, Cars, Dogs, Aircraft, Flowers and Tiny ImageNet.

The files are those of the publishers, in the folders of their archives (torchvision's, where it has the data set).
`data_dir` is the folder that holds this folder, or the folder itself. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.config import TrainConfig
from trainers.data.image_files import ENDINGS
from trainers.data.image_folders import ImageFiles, checked
from trainers.datasets import DATASETS, DataError, data_remedy, first_line, is_hidden, warn_once

Samples = list[tuple[Path, int]]
"""Image files and their labels from 0."""


@dataclass(frozen=True)
class ListedSet:
    """A data set: its folder, its published number of images, and the reader of one part (True: training)."""

    folder: str
    needs: tuple[str, ...]
    """Files and folders below it."""
    count: int
    samples: Callable[[Path, bool], Samples]


def find(config: TrainConfig) -> Path:
    """Returns the data set's folder; data_dir may name it or the folder that holds it. Raises DataError."""
    info, root = SETS[config.dataset], Path(config.data_dir or "data")
    root = root.parent if root.name == info.folder else root
    folder = root / info.folder
    missing = [name for name in info.needs if not (folder / name).exists()]
    if missing:
        raise DataError(f"{config.dataset}: {folder} lacks {', '.join(missing)}; {data_remedy(config.dataset, root)}")
    return folder


def load(config: TrainConfig, train: bool) -> ImageFiles:
    """Returns one part as a stream, of which some images have been decoded. Raises DataError."""
    info, folder = SETS[config.dataset], find(config)
    try:
        parts = [info.samples(folder, part) for part in (train, not train)]
    except Exception as error:  # scipy and list files raise errors of many types
        text = f"the lists in {folder} cannot be read ({first_line(error)}); unpack its archive again"
        raise DataError(f"{config.dataset}: {text}") from error
    samples = parts[0]
    if lacking := [path for path, _ in samples if not path.is_file()]:
        text = f"{len(lacking):,} of {len(samples):,} listed images are missing, such as {lacking[0]}"
        raise DataError(f"{config.dataset}: {text}; unpack its archive again")
    classes = DATASETS[config.dataset]["num_classes"]
    if not samples or not all(0 <= label < classes for _, label in samples):
        raise DataError(f"{config.dataset}: the lists in {folder} must give images of classes 1 to {classes}")
    if (found := sum(map(len, parts))) < info.count:
        warn_once(f"{config.dataset}: {folder} lists {found:,} of the {info.count:,} published images")
    files, labels = zip(*samples, strict=True)
    return checked(ImageFiles(tuple(files), torch.tensor(labels), config, torch.device("cpu")))


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if line.strip()]


def _matrix(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    found: dict[str, Any] = loadmat(str(path), squeeze_me=True)
    return found


def _cub200(folder: Path, train: bool) -> Samples:
    """CUB-200-2011: lines `number value` in three lists; 1 in the third one marks training images."""
    images, labels, parts = (
        dict(_lines(folder / name)) for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    return [
        (folder / "images" / path, int(labels[key]) - 1) for key, path in images.items() if (parts[key] == "1") == train
    ]


def _cars(folder: Path, train: bool) -> Samples:
    """Stanford Cars: annotations of name and class; those of the test part lie beside the devkit."""
    if train:
        images, table = folder / "cars_train", folder / "devkit" / "cars_train_annos.mat"
    else:
        images, table = folder / "cars_test", folder / "cars_test_annos_withlabels.mat"
    rows = _matrix(table)["annotations"].reshape(-1)
    return [(images / str(row["fname"]), int(row["class"]) - 1) for row in rows]


def _dogs(folder: Path, train: bool) -> Samples:
    """Stanford Dogs: `file_list` and `labels` of each part."""
    table = _matrix(folder / f"{'train' if train else 'test'}_list.mat")
    names, labels = table["file_list"].reshape(-1), table["labels"].reshape(-1)
    return [(folder / "Images" / str(name), int(label) - 1) for name, label in zip(names, labels, strict=True)]


def _aircraft(folder: Path, train: bool) -> Samples:
    """FGVC Aircraft: variants; of the three official parts, `val` is not used."""
    data = folder / "data"
    variants = {name: label for label, name in enumerate((data / "variants.txt").read_text().splitlines())}
    lines = (data / f"images_variant_{'train' if train else 'test'}.txt").read_text().splitlines()
    rows = [line.split(" ", 1) for line in lines if line.strip()]
    return [(data / "images" / f"{number}.jpg", variants[variant]) for number, variant in rows]


def _flowers(folder: Path, train: bool) -> Samples:
    """Flowers-102: numbers of the images of each part (`trnid`, `tstid`; `valid` is not used), labels by number."""
    numbers = _matrix(folder / "setid.mat")["trnid" if train else "tstid"].reshape(-1)
    labels = _matrix(folder / "imagelabels.mat")["labels"].reshape(-1)
    return [(folder / "jpg" / f"image_{number:05}.jpg", int(labels[number - 1]) - 1) for number in numbers]


def _tiny_imagenet(folder: Path, train: bool) -> Samples:
    """Tiny ImageNet: its validation images are the test part, as published or sorted into folders by `fetch`."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir() and not is_hidden(path))
    labels = {name: label for label, name in enumerate(classes)}
    if not train and (folder / "val" / "val_annotations.txt").is_file():
        rows = _lines(folder / "val" / "val_annotations.txt")
        return [(folder / "val" / "images" / row[0], labels[row[1]]) for row in rows]
    part = folder / ("train" if train else "val")
    return [(path, label) for name, label in labels.items() for path in _images(part / name)]


def _images(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not is_hidden(path))


SETS: dict[str, ListedSet] = {
    "cub200": ListedSet(
        "CUB_200_2011",
        ("images", "images.txt", "image_class_labels.txt", "train_test_split.txt"),
        11_788,
        _cub200,
    ),
    "stanford_cars": ListedSet(
        "stanford_cars",
        ("cars_train", "cars_test", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
        16_185,
        _cars,
    ),
    "stanford_dogs": ListedSet("stanford_dogs", ("Images", "train_list.mat", "test_list.mat"), 20_580, _dogs),
    "fgvc_aircraft": ListedSet(
        "fgvc-aircraft-2013b",
        ("data/images", "data/variants.txt", "data/images_variant_train.txt", "data/images_variant_test.txt"),
        6_667,
        _aircraft,
    ),
    "flowers102": ListedSet("flowers-102", ("jpg", "setid.mat", "imagelabels.mat"), 7_169, _flowers),
    "tiny_imagenet": ListedSet("tiny-imagenet-200", ("train", "val"), 110_000, _tiny_imagenet),
}
"""Published counts: both parts that are used."""
