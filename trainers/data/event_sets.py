"""CIFAR10-DVS, DVS128 Gesture and N-Caltech101: recorded events in published files or SpikingJelly's folders.

`data_dir` may be the folder of the unpacked files or SpikingJelly's root (`download`, `extract`, `events_np`). Nothing
is written, except that archives are unpacked into `extract` if no unpacked files exist.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.config import TrainConfig
from trainers.data import archives
from trainers.data.event_files import Events, frames, read, read_recording
from trainers.data.split import Split
from trainers.datasets import DATASETS, DataError, first_line

TRAIN_SHARE = 0.9
"""The papers' split of sets without an official one: the first 90 % of each class, in the order of file names."""
CONVERTED = "events_np"
"""SpikingJelly's folder of converted events."""


@dataclass(frozen=True)
class Sample:
    """Location of one sample's events: a file, or the microseconds [start, end) of a recording."""

    path: Path
    label: int
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class EventSet:
    """Names of a data set's files. `samples` lists those of one part and raises DataError for missing ones."""

    folder: str
    archives: tuple[str, ...]
    published: str
    height: int
    width: int
    mark: str
    samples: Callable[[Path, bool], list[Sample]]


def find(config: TrainConfig) -> Path | None:
    """Returns the folder of the data set's files, or None if they are still in their archives. Raises DataError."""
    info, root = SETS[config.dataset], Path(config.data_dir or "data")
    interrupted = (root / f"{CONVERTED}.building").exists()  # SpikingJelly's mark of an interrupted conversion
    candidates = [] if interrupted else [root / CONVERTED]
    candidates += [root / archives.UNPACKED / info.folder, root / info.folder, root]
    for folder in candidates:
        if any(folder.glob(info.mark)) or (folder.name == CONVERTED and folder.is_dir()):
            info.samples(folder, True)
            return folder
    archives.find(root, info.archives, config.dataset)
    return None


def load(config: TrainConfig, train: bool) -> Split:
    """Returns event counts [M, step, 2, img_size, img_size] of one part, in the smallest type that holds them all.

    Raises DataError for files that are missing or cannot be read.
    """
    info = SETS[config.dataset]
    folder = find(config)
    if folder is None:
        root = Path(config.data_dir or "data")
        archives.unpack(root, info.archives, config.dataset, info.published)
        folder = find(config)
        if folder is None:
            raise DataError(f"{config.dataset}: {', '.join(info.archives)} in {root} hold no {info.mark}")
    samples = info.samples(folder, train)
    if not samples:
        raise DataError(f"{config.dataset}: {folder} holds too few files for a {'training' if train else 'test'} part")
    counts = torch.zeros(len(samples), config.step, 2, config.img_size, config.img_size, dtype=torch.uint8)
    for i, (sample, events) in enumerate(_read(samples, config.dataset)):
        try:
            counted = frames(events, config.step, info.height, info.width, config.img_size)
        except ValueError as error:
            raise _damaged(config.dataset, sample.path, error) from error
        if int(counted.max()) > torch.iinfo(counts.dtype).max:
            counts = counts.to(torch.int16 if int(counted.max()) < 1 << 15 else torch.int32)
        counts[i] = counted
    return Split(counts, torch.tensor([sample.label for sample in samples]))


def _read(samples: list[Sample], name: str) -> Iterator[tuple[Sample, Events]]:
    """Yields each sample with its events; a recording with several samples is read once."""
    for path, group in itertools.groupby(samples, lambda sample: sample.path):
        chosen = list(group)
        try:
            events = read(path) if chosen[0].span is None else read_recording(path)
        except Exception as error:  # damaged files raise errors of many types
            raise _damaged(name, path, error) from error
        for sample in chosen:
            yield sample, events if sample.span is None else events.between(*sample.span)


def _damaged(name: str, path: Path, error: Exception) -> DataError:
    names = SETS[name].archives
    archive = names[0] if len(names) == 1 else f"{path.parent.name}.zip"
    return DataError(f"{name}: {path} cannot be read ({first_line(error)}); unpack {archive} again")


def _by_class(folder: Path, classes: Sequence[str], train: bool) -> list[Sample]:
    """Returns the first 90 % of each class, or the rest, in the order of file names; of two files, one for each."""
    samples = []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).glob("*") if path.suffix in (".aedat", ".bin", ".npz"))
        if not files:
            raise DataError(f"{folder / name} holds no event files; unpack its archive there again")
        end = min(math.ceil(TRAIN_SHARE * len(files)), max(1, len(files) - 1))
        samples += [Sample(path, label) for path in (files[:end] if train else files[end:])]
    return samples


def _cifar10_dvs(folder: Path, train: bool) -> list[Sample]:
    missing = [name for name in CIFAR10_CLASSES if not (folder / name).is_dir()]
    if missing:
        text = f"{folder} lacks the folders {', '.join(missing)}; unpack {missing[0]}.zip ... there"
        raise DataError(f"cifar10_dvs: {text}, or name their folder with data_dir")
    return _by_class(folder, CIFAR10_CLASSES, train)


def _n_caltech101(folder: Path, train: bool) -> list[Sample]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    expected = DATASETS["n_caltech101"]["num_classes"]
    if len(classes) != expected:
        text = f"{folder} must hold {expected} folders, one per class (got {len(classes)}); unpack Caltech101.zip again"
        raise DataError(f"n_caltech101: {text}, or name its folder with data_dir")
    return _by_class(folder, classes, train)


def _dvs128_gesture(folder: Path, train: bool) -> list[Sample]:
    """Returns an official part, from the lists of recordings or SpikingJelly's folders `train/0` to `test/10`."""
    part = "train" if train else "test"
    if folder.name == CONVERTED:
        classes = range(DATASETS["dvs128_gesture"]["num_classes"])
        files = [(path, label) for label in classes for path in sorted((folder / part / str(label)).glob("*.npz"))]
        if len({label for _, label in files}) < len(classes):
            raise DataError(f"dvs128_gesture: {folder / part} must hold files in each of the folders 0 to 10")
        return [Sample(path, label) for path, label in files]
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
        raise _damaged("dvs128_gesture", table, error) from error
    if not all(1 <= label <= 11 for label, _, _ in spans):
        raise _damaged("dvs128_gesture", table, ValueError("classes must be 1 to 11"))
    return spans


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise _lacks(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged("dvs128_gesture", path, error) from error


def _lacks(path: Path) -> DataError:
    text = f"{path.parent} lacks {path.name}; unpack DvsGesture.tar.gz again, or name its folder with data_dir"
    return DataError(f"dvs128_gesture: {text}")


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SETS = {
    "cifar10_dvs": EventSet(
        ".", tuple(f"{name}.zip" for name in CIFAR10_CLASSES), "CIFAR10DVS", 128, 128, "*/*.aedat", _cifar10_dvs
    ),
    "dvs128_gesture": EventSet(
        "DvsGesture", ("DvsGesture.tar.gz",), "DVS128Gesture", 128, 128, "trials_to_*.txt", _dvs128_gesture
    ),
    "n_caltech101": EventSet("Caltech101", ("Caltech101.zip",), "NCaltech101", 180, 240, "*/*.bin", _n_caltech101),
}
"""SpikingJelly's class of each set (`published`) lists the archives' MD5 sums."""
