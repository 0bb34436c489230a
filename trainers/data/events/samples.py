"""Samples of the event sets by the names of their files, in the published folders or SpikingJelly's conversion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.data.events.files import ENDINGS
from trainers.datasets import DATASETS, DataError, first_line, is_hidden, warn_once

TRAIN_SHARE = 0.9
"""The papers' split of sets without an official one: the first 90 % of each class, in the order of file names."""
CONVERTED = "events_np"
"""SpikingJelly's folder of converted events."""
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Sample:
    """Location of one sample's events: a file, or the microseconds [start, end) of a recording."""

    path: Path
    label: int
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class EventSet:
    """Names of a data set's files.

    `samples` lists those of one part and raises DataError for missing ones; `mark` matches files of unpacked archives;
    `count` samples were published, both parts together.
    """

    folder: str
    archives: tuple[str, ...]
    published: str
    count: int
    height: int
    width: int
    mark: str
    samples: Callable[[Path, bool], list[Sample]]

    def has_recordings(self, folder: Path) -> bool:
        """Returns whether a folder holds unpacked files."""
        return any(not is_hidden(path) and not is_hidden(path.parent) for path in folder.glob(self.mark))

    def by_class(self, folder: Path) -> Counter[int]:
        """Returns the number of samples of each class in both parts. Raises DataError for missing files."""
        return Counter(sample.label for train in (True, False) for sample in self.samples(folder, train))


def damaged(name: str, path: Path, error: Exception) -> DataError:
    """Returns the error of a file that cannot be read, with the remedy."""
    names = SETS[name].archives
    by_class = f"{path.parent.name}.zip"
    archive = by_class if by_class in names else " and ".join(names)
    remedy = f"unpack {archive} again" if path.suffix.lower() != ".npz" else _convert_again(path)
    return DataError(f"{name}: {path} cannot be read ({first_line(error)}); {remedy}")


def _convert_again(path: Path) -> str:
    folder = next((parent for parent in path.parents if parent.name == CONVERTED), path.parent)
    return f"remove {folder}, or make it again with SpikingJelly"


def _event_files(name: str, folders: Sequence[Path], endings: frozenset[str] = ENDINGS) -> list[list[Path]]:
    """Returns the event files of each class in the order of their names. Raises DataError if there are none.

    Skips hidden files, and warns of others that are passed over.
    """
    found = [_visible_files(name, folder, endings) for folder in folders]
    if others := Counter(path.suffix or "without ending" for _, passed_over in found for path in passed_over):
        counts = ", ".join(f"{ending} {count}" for ending, count in sorted(others.items()))
        text = f"files passed over: {others.total()} ({counts}), as they hold no events"
        warn_once(f"{name}: {folders[0].parent}: {text}")
    return [files for files, _ in found]


def _visible_files(name: str, folder: Path, endings: frozenset[str]) -> tuple[list[Path], list[Path]]:
    """Returns the event files of a class, and its other files."""
    visible = sorted(path for path in folder.glob("*") if not is_hidden(path))
    files = [path for path in visible if path.suffix.lower() in endings]
    if not files:
        held = f"; it holds {len(visible)} other files, such as {visible[0].name}" if visible else ""
        converted = any(path.name == CONVERTED for path in (folder, *folder.parents))
        remedy = _convert_again(folder) if converted else f"unpack its archive there again, or remove {folder.parent}"
        raise DataError(f"{name}: {folder} holds no event files ({', '.join(sorted(endings))}){held}; {remedy}")
    return files, [path for path in visible if path.suffix.lower() not in endings]


def _by_class(name: str, folder: Path, classes: Sequence[str], train: bool) -> list[Sample]:
    """Returns the first 90 % of each class, or the rest, in the order of file names; of two files, one for each."""
    samples = []
    for label, files in enumerate(_event_files(name, [folder / class_name for class_name in classes])):
        end = min(math.ceil(TRAIN_SHARE * len(files)), max(1, len(files) - 1))
        samples += [Sample(path, label) for path in (files[:end] if train else files[end:])]
    return samples


def _cifar10_dvs(folder: Path, train: bool) -> list[Sample]:
    missing = [name for name in CIFAR10_CLASSES if not (folder / name).is_dir()]
    if missing:
        text = f"{folder} lacks the folders {', '.join(missing)}; unpack {missing[0]}.zip ... there"
        raise DataError(f"cifar10_dvs: {text}, or name their folder with data_dir")
    return _by_class("cifar10_dvs", folder, CIFAR10_CLASSES, train)


def _n_caltech101(folder: Path, train: bool) -> list[Sample]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path))
    expected = DATASETS["n_caltech101"]["num_classes"]
    if len(classes) != expected:
        empty = [name for name in classes if not any((folder / name).iterdir())]
        remedy = f"remove {', '.join(empty)}, which holds no files" if empty else "unpack Caltech101.zip again"
        text = f"{folder} must hold {expected} folders, one per class (got {len(classes)}); {remedy}"
        raise DataError(f"n_caltech101: {text}, or name its folder with data_dir")
    return _by_class("n_caltech101", folder, classes, train)


def _n_mnist(folder: Path, train: bool) -> list[Sample]:
    """Returns an official part, from `Train/0` to `Test/9`; SpikingJelly's conversion has small letters."""
    part = "Train" if train else "Test"
    is_converted = folder.name == CONVERTED
    root = folder / (part.lower() if is_converted else part)
    folders = [root / str(label) for label in range(DATASETS["n_mnist"]["num_classes"])]
    by_class = _event_files("n_mnist", folders, _NPZ if is_converted else ENDINGS)
    return [Sample(path, label) for label, paths in enumerate(by_class) for path in paths]


def _hardvs(folder: Path, train: bool) -> list[Sample]:
    """Returns an official part, listed as `action_001/NAME 0` in train_label.txt or test_label.txt; val is not used."""
    table = folder / f"{'train' if train else 'test'}_label.txt"
    if not table.is_file():
        text = f"{folder} lacks {table.name}; put the publisher's lists there, or name their folder with data_dir"
        raise DataError(f"hardvs: {text}")
    samples = []
    for line in table.read_text().splitlines():
        if line.strip():
            name = line.split()[0]
            samples.append(Sample(folder / f"{name}.npz", int(name.split("/")[0][-3:]) - 1))
    return samples


def _dvs128_gesture(folder: Path, train: bool) -> list[Sample]:
    """Returns an official part, from the lists of recordings or SpikingJelly's folders `train/0` to `test/10`."""
    part = "train" if train else "test"
    if folder.name == CONVERTED:
        folders = [folder / part / str(label) for label in range(DATASETS["dvs128_gesture"]["num_classes"])]
        by_class = _event_files("dvs128_gesture", folders, _NPZ)
        return [Sample(path, label) for label, paths in enumerate(by_class) for path in paths]
    trials = [line.strip() for line in _text(folder / f"trials_to_{part}.txt").splitlines() if line.strip()]
    samples = []
    for path in (folder / trial for trial in trials):
        if not path.is_file():
            raise _lacks(path)
        samples += [Sample(path, label - 1, (start, end)) for label, start, end in _spans(path)]
    return samples


def _spans(recording: Path) -> list[tuple[int, int, int]]:
    """Returns (class from 1, start, end) of each gesture in a recording, from the table beside it."""
    table = recording.with_name(f"{recording.stem}_labels.csv")
    try:
        rows = [[int(value) for value in line.split(",")] for line in _text(table).splitlines()[1:] if line.strip()]
        spans = [(label, start, end) for label, start, end in rows]
    except ValueError as error:
        raise damaged("dvs128_gesture", table, error) from error
    if not all(1 <= label <= 11 for label, _, _ in spans):
        raise damaged("dvs128_gesture", table, ValueError("classes must be 1 to 11"))
    return spans


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise _lacks(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise damaged("dvs128_gesture", path, error) from error


def _lacks(path: Path) -> DataError:
    text = f"{path.parent} lacks {path.name}; unpack DvsGesture.tar.gz again, or name its folder with data_dir"
    return DataError(f"dvs128_gesture: {text}")


_NPZ = frozenset({".npz"})
_ZIPS = tuple(f"{name}.zip" for name in CIFAR10_CLASSES)
SETS = {
    "cifar10_dvs": EventSet(".", _ZIPS, "CIFAR10DVS", 10_000, 128, 128, "*/*.aedat", _cifar10_dvs),
    "dvs128_gesture": EventSet(
        "DvsGesture", ("DvsGesture.tar.gz",), "DVS128Gesture", 1_464, 128, 128, "trials_to_*.txt", _dvs128_gesture
    ),
    "n_caltech101": EventSet(
        "Caltech101", ("Caltech101.zip",), "NCaltech101", 8_709, 180, 240, "*/*.bin", _n_caltech101
    ),
    "n_mnist": EventSet(".", ("Train.zip", "Test.zip"), "NMNIST", 70_000, 34, 34, "T*/[0-9]/*.bin", _n_mnist),
    "hardvs": EventSet(".", ("MINI_HARDVS_files.zip",), "HARDVS", 96_912, 260, 346, "action_*/*.npz", _hardvs),
}
"""SpikingJelly's class of each set (`published`) lists the archives' MD5 sums."""
