"""Scikit-learn's 1797 handwritten digits, as images and as derived events."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.config import TrainConfig
from trainers.data.events.files import Events, frames
from trainers.data.split import Split, stratified

TEST_SHARE = 297 / 1797
SPLIT_SEED = 1797

SENSOR = 16
"""Height and width of the simulated event camera, in pixels."""
SACCADES = ((0.0, 0.0), (1.5, 3.0), (3.0, 0.0), (0.0, 0.0))
"""Corners (x, y in pixels) of the camera's path: three straight movements, as in N-MNIST."""
MOVES = 8
"""Small steps of each movement."""
CONTRAST = 0.2
"""Change of brightness, of a range of 1, that makes an event."""


def load(config: TrainConfig, train: bool) -> Split:
    """Returns the images [M, 1, 8, 8]: 297 for testing, by a fixed stratified split, and 1500 for training."""
    images, labels = _read(train)
    pixels = np.rint(images[:, None] * 255.0).astype(np.uint8)
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels))


def load_events(config: TrainConfig, train: bool) -> Split:
    """Returns the event counts [M, T, 2, S, S] of a simulated camera moving over the images, S = img_size.

    They are derived, not recorded: three fixed movements, no noise; equal at every call.
    """
    images, labels = _read(train)
    counts = torch.stack([frames(events, config.step, SENSOR, SENSOR, config.img_size) for events in _record(images)])
    return Split(counts.to(torch.uint8), torch.from_numpy(labels))


def _read(train: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images, labels = read_all()
    test = stratified(labels, TEST_SHARE, SPLIT_SEED)
    chosen = np.setdiff1d(np.arange(len(labels)), test) if train else np.sort(test)
    return images.reshape(-1, 8, 8)[chosen] / 16.0, labels[chosen]


def read_all() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns the data of scikit-learn's `load_digits` from its file; importing the package takes half a second."""
    found = find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(path, delimiter=",", dtype=np.float64)
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def _record(images: np.ndarray[Any, Any]) -> list[Events]:
    """Returns each image's events: a pixel fires once for each CONTRAST that its brightness rose (ON) or fell (OFF)."""
    path = np.concatenate([np.linspace(a, b, MOVES, endpoint=False) for a, b in itertools.pairwise(SACCADES)])
    reference = _view(images, *path[0])  # the brightness [M, H, W] at which each pixel last fired
    changes = []
    for x, y in [*path[1:], SACCADES[-1]]:
        steps = np.trunc((_view(images, x, y) - reference) / CONTRAST * (1.0 + 1e-9)).astype(np.int64)
        reference = reference + steps * CONTRAST
        changes.append(steps)
    return [_events(steps) for steps in np.stack(changes, 1)]


def _events(steps: np.ndarray[Any, Any]) -> Events:
    """Returns the events of signed counts [time, H, W], in the order of time, then of rows and columns."""
    t, y, x = np.nonzero(steps)
    size = steps[t, y, x]
    count, on = np.abs(size).astype(np.int64), (size > 0).astype(np.int64)
    return Events(*(np.repeat(values, count) for values in (t, x, y, on)))


def _view(images: np.ndarray[Any, Any], x: float, y: float) -> np.ndarray[Any, Any]:
    """Returns the camera's view [M, SENSOR, SENSOR]: the images at 1.5 times their size, shifted by (x, y) pixels.

    Linear interpolation between pixel centres; dark outside the image.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = (np.clip((np.arange(SENSOR) - shift - 0.5) / 1.5 + 0.5, 0.0, 9.0) for shift in (y, x))
    low_y, low_x = (np.minimum(np.floor(values).astype(int), 8) for values in (rows, columns))
    part_y, part_x = (rows - low_y)[:, None], columns - low_x
    upper, lower = padded[:, low_y], padded[:, low_y + 1]
    mixed = upper * (1 - part_y) + lower * part_y
    view: np.ndarray[Any, Any] = mixed[..., low_x] * (1 - part_x) + mixed[..., low_x + 1] * part_x
    return view
