"""CIFAR10-DVS, DVS128 Gesture and N-Caltech101: recorded events in published files or SpikingJelly's folders.

`data_dir` may be the folder of the unpacked files or SpikingJelly's root (`download`, `extract`, `events_np`). Nothing
is written, except that archives are unpacked into `extract` if no unpacked files exist.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from trainers.config import TrainConfig
from trainers.data import archives
from trainers.data.events.files import Events, frames, holds_frames, read, read_recording
from trainers.data.events.samples import CONVERTED, SETS, EventSet, Sample, damaged
from trainers.data.split import Split
from trainers.datasets import DataError, is_hidden, warn_once

INTERRUPTED = ".building"
"""Ending of SpikingJelly's mark of an interrupted conversion."""


def find(config: TrainConfig) -> Path | None:
    """Returns the folder of the data set's files, or None if they are still in their archives. Raises DataError.

    Converted events are read before recordings, unless they have fewer samples. Warns if less than was published is
    found.
    """
    info, root = SETS[config.dataset], Path(config.data_dir or "data")
    recordings = _recordings(info, root)
    folder = _converted(config.dataset, root, recordings) or recordings
    if folder is None:
        try:
            archives.find(root, info.archives, config.dataset)
        except DataError as error:
            raise DataError(f"{error}{_not_read(root)}") from None
        return None
    info.samples(folder, True)
    if (found := _by_class(info, folder).total()) < info.count:
        warn_once(f"{config.dataset}: {folder} holds {found:,} of the {info.count:,} published samples")
    return folder


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
            raise damaged(config.dataset, sample.path, error) from error
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
            raise damaged(name, path, error) from error
        for sample in chosen:
            yield sample, events if sample.span is None else events.between(*sample.span)


def _recordings(info: EventSet, root: Path) -> Path | None:
    """Returns the folder of unpacked files in or beside a folder, or None."""
    base = root.parent if root.name == CONVERTED else root
    candidates = (base / archives.UNPACKED / info.folder, base / info.folder, base)
    return next((folder for folder in candidates if info.has_recordings(folder)), None)


def _converted(name: str, root: Path, recordings: Path | None) -> Path | None:
    """Returns the folder of converted events if there is one that holds all the recordings' samples."""
    folder = root if root.name == CONVERTED else root / CONVERTED
    if not folder.is_dir() or _is_interrupted(folder):
        return None
    if recordings is not None:
        found, recorded = (_by_class(SETS[name], place) for place in (folder, recordings))
        if any(found[label] < count for label, count in recorded.items()):
            counts = f"{found.total():,} of the {recorded.total():,} samples of {recordings}"
            warn_once(f"{name}: {folder} holds {counts}, which are read instead; remove or complete the former")
            return None
    return folder


def _by_class(info: EventSet, folder: Path) -> Counter[int]:
    """Returns the samples of each class; none if files are missing."""
    try:
        return info.by_class(folder)
    except DataError:
        return Counter()


def _is_interrupted(folder: Path) -> bool:
    return folder.with_name(f"{folder.name}{INTERRUPTED}").exists()


def _not_read(root: Path) -> str:
    """Returns what a folder without recordings holds instead, as the end of a sentence."""
    converted = root if root.name == CONVERTED else root / CONVERTED
    if converted.is_dir() and _is_interrupted(converted):
        return f". {converted} is not read, as its conversion by SpikingJelly was interrupted; make it again"
    files = itertools.chain.from_iterable(root.glob(f"{'*/' * depth}*.npz") for depth in (1, 2, 3))
    first = next((path for path in files if not is_hidden(path)), None)
    if first is None or not holds_frames(first):
        return ""
    return (
        f". {first} holds frames made by SpikingJelly, which are not read; name the folder of its events ({CONVERTED})"
    )
