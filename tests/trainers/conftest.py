"""A tiny Spikformer that trains in a fraction of a second, and CIFAR in its true format with few images."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainers.config import TrainConfig

TINY = {
    "dataset": "digits",
    "model": "spikformer_cifar",
    "step": 2,
    "patch_size": 4,
    "embed_dim": 16,
    "num_heads": 2,
    "mlp_ratio": 1.0,
    "depths": 1,
    "val_fraction": 0.8,
    "smoothing": 0.0,
    "hflip": 0.0,
    "epochs": 2,
    "batch_size": 50,
    "val_batch_size": 600,
    "lr": 0.01,
    "seed": 3,
}
"""300 training and 1200 validation images."""


@pytest.fixture(scope="session")
def tiny_keys() -> dict[str, Any]:
    """The train file of the tiny model, as plain data."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TrainConfig]:
    """Makes the tiny config, with some keys changed."""

    def make(**keys: Any) -> TrainConfig:
        return TrainConfig.model_validate({**TINY, **keys})

    return make


@pytest.fixture(scope="session")
def write_cifar() -> Callable[..., Path]:
    """Writes CIFAR-10 or CIFAR-100 in the published on-disk format, with `count` images per file; returns its
    folder."""

    def write(root: Path, name: str = "cifar10", count: int = 20) -> Path:
        classes = 10 if name == "cifar10" else 100
        folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
        folder.mkdir(parents=True)
        batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
        generator = np.random.default_rng(0)
        for batch in batches:
            pixels = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
            labels = [int(i) % classes for i in range(count)]
            named = {"labels": labels} if classes == 10 else {"fine_labels": labels, "coarse_labels": labels}
            _dump(folder / batch, {"batch_label": batch, "data": pixels, **named})
        meta, key = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
        _dump(folder / meta, {key: [f"class {i}" for i in range(classes)]})
        return folder

    return write


@pytest.fixture(scope="session")
def write_mnist() -> Callable[..., Path]:
    """Writes MNIST or Fashion-MNIST in the published IDX files, with `count` images per part; returns their folder."""

    def write(root: Path, name: str = "MNIST", count: int = 40) -> Path:
        folder = root / name / "raw"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        for part in ("train", "t10k"):
            pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
        return folder

    return write


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """Returns an array of bytes in the IDX format: two zeros, the type, the number of sizes, the sizes, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _dump(path: Path, entry: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(entry, protocol=2))


# ---------------------------------------------------------------------------------------------- events on disk

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Recorded = dict[str, np.ndarray[Any, Any]]


def some_events(seed: int, width: int = 128, height: int = 128, count: int = 300) -> Recorded:
    """Returns random events t (ascending, in microseconds), x, y, p."""
    generator = np.random.default_rng(seed)
    t = np.sort(generator.integers(1, 100_000, count))
    x, y, p = (generator.integers(0, size, count) for size in (width, height, 2))
    return {"t": t, "x": x, "y": y, "p": p}


def aedat2(events: Recorded) -> bytes:
    """Returns the events as jAER writes them, the camera on its side and 1 for OFF, as in CIFAR10-DVS."""
    address = (127 - events["x"]) << 8 | (127 - events["y"]) << 1 | (1 - events["p"])
    pairs = np.stack([address, events["t"]], 1).astype(">u4")
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + pairs.tobytes()


def aedat3(events: Recorded, packets: int = 3) -> bytes:
    """Returns the events as cAER writes them: packets, of which one holds no polarity events."""
    data = events["x"] << 17 | events["y"] << 2 | events["p"] << 1 | 1
    pairs = np.stack([data, events["t"]], 1).astype("<u4")
    out = (
        b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
        + struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1)
        + bytes(8)
    )
    for part in np.array_split(pairs, packets):
        out += struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(part), len(part), len(part)) + part.tobytes()
    return out


def atis(events: Recorded) -> bytes:
    """Returns the events as in N-Caltech101, five bytes each."""
    t = events["t"]
    columns = (events["x"], events["y"], events["p"] << 7 | t >> 16, t >> 8 & 255, t & 255)
    return np.stack(columns, 1).astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def write_events() -> Callable[..., Path]:
    """Writes a small event set in its published files, `count` samples per class; returns the folder that holds
    them."""

    def write(root: Path, name: str, count: int = 3) -> Path:
        if name == "dvs128_gesture":
            return _write_gestures(root / "DvsGesture", count)
        classes = CIFAR10_CLASSES if name == "cifar10_dvs" else [f"class_{i:03}" for i in range(101)]
        folder = root if name == "cifar10_dvs" else root / "Caltech101"
        for k, label in enumerate(classes):
            (folder / label).mkdir(parents=True)
            for i in range(count):
                if name == "cifar10_dvs":
                    (folder / label / f"cifar10_{label}_{i}.aedat").write_bytes(aedat2(some_events(1000 * k + i)))
                else:
                    (folder / label / f"image_{i + 1:04}.bin").write_bytes(atis(some_events(1000 * k + i, 240, 180)))
        return folder

    return write


def _write_gestures(folder: Path, count: int) -> Path:
    """Writes `count` recordings of each part, each with one sample of every class."""
    folder.mkdir(parents=True)
    for part, seed in (("train", 0), ("test", 100)):
        names = [f"user{seed + i:02}_fluorescent.aedat" for i in range(count)]
        (folder / f"trials_to_{part}.txt").write_text("".join(f"{name}\n" for name in names) + "\n")
        for i, name in enumerate(names):
            (folder / name).write_bytes(aedat3(some_events(seed + i, count=1100)))
            spans = "".join(f"{k + 1},{k * 9000},{(k + 1) * 9000}\n" for k in range(11))
            (folder / name.replace(".aedat", "_labels.csv")).write_text("class,startTime_usec,endTime_usec\n" + spans)
    return folder


@pytest.fixture(scope="session")
def event_bytes() -> dict[str, Callable[..., bytes]]:
    """The published formats of event files: events as arrays in, the file's bytes out."""
    return {"aedat2": aedat2, "aedat3": aedat3, "atis": atis}


@pytest.fixture(scope="session")
def random_events() -> Callable[..., Recorded]:
    """Makes random events t, x, y, p."""
    return some_events


@pytest.fixture(scope="session")
def write_images() -> Callable[..., Path]:
    """Writes folders of small JPEG files, `count` per class, for training and validation; returns their root."""

    def write(root: Path, classes: int = 3, count: int = 6, parts: tuple[str, ...] = ("train", "val")) -> Path:
        generator = np.random.default_rng(0)
        for part in parts:
            for k in range(classes):
                folder = root / part / f"n{k:08}"
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8) // 2 + 40 * k
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}_{i}.JPEG")
        return root

    return write
