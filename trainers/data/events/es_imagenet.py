"""ES-ImageNet (Lin et al. 2021): ImageNet as events of a path of 8 moves, in its published files.

`trainlabel.txt` and `vallabel.txt` list a file, its class from 0, and the height and width of its events. A file holds
`pos` and `neg`, rows (row, column, move from 1 to 8). As in the BrainCog/STEP benchmark, the events are centred on
254 x 254 pixels, a pixel fires at most once per move and polarity, and the central 224 x 224 pixels are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.config import TrainConfig
from trainers.data.archives import UNPACKED
from trainers.data.events.stream import EventFiles
from trainers.datasets import DATASETS, ES_IMAGENET_MOVES, DataError, data_remedy, first_line

FOLDER = "ES-imagenet-0.18"
LISTS = {True: "trainlabel.txt", False: "vallabel.txt"}
PARTS = {True: "train", False: "val"}
SENSOR, CENTRED, CROP = 256, 254, 224
MARGIN = (SENSOR - CROP) // 2


def find(config: TrainConfig) -> Path:
    """Returns the folder of the unpacked archives; data_dir may name it or one that holds it. Raises DataError."""
    root = Path(config.data_dir or "data")
    root = root.parent if root.name == FOLDER else root
    candidates = (root / FOLDER, root / UNPACKED / FOLDER)
    folder = next((one for one in candidates if one.is_dir()), candidates[0])
    needed = (*LISTS.values(), *PARTS.values())
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise DataError(f"{config.dataset}: {folder} lacks {', '.join(missing)}; {data_remedy(config.dataset, root)}")
    return folder


def load(config: TrainConfig, train: bool) -> EventFiles:
    """Returns one part as a stream, of which some recordings have been read. Raises DataError."""
    folder = find(config)
    files, labels, sizes = _listed(folder, train)
    data = EventFiles(files, torch.tensor(sizes), torch.tensor(labels), read, config, torch.device("cpu"))
    return data.checked()


def _listed(folder: Path, train: bool) -> tuple[tuple[Path, ...], list[int], list[tuple[int, int]]]:
    """Returns files, labels and sizes of a part. Raises DataError for lines of another form."""
    table, part = folder / LISTS[train], folder / PARTS[train]
    files, labels, sizes = [], [], []
    for number, line in enumerate(table.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, label, height, width = line.split()
            labels.append(int(label))
            sizes.append((int(height), int(width)))
        except ValueError:
            text = f"{table}:{number}: must hold a file, its class, a height and a width (got {line.strip()!r})"
            raise DataError(f"es_imagenet: {text}; unpack the archives again") from None
        if not 0 <= labels[-1] < DATASETS["es_imagenet"]["num_classes"]:
            raise DataError(f"es_imagenet: {table}:{number}: the class must be 0 to 999 (got {label})")
        files.append((part / name).with_suffix(".npz"))
    if not files:
        raise DataError(f"es_imagenet: {table} lists no recordings; unpack the archives again")
    return tuple(files), labels, sizes


def read(path: Path, size: tuple[int, int], config: TrainConfig) -> Tensor:
    """Returns counts [step, 2, img_size, img_size] as int16. Raises DataError for a file that cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            events = [np.asarray(arrays[key]).astype(np.int64).reshape(-1, 3) for key in ("neg", "pos")]
        return frames(events, size, config.step, config.img_size)
    except Exception as error:  # damaged files raise errors of many types
        text = f"{path} cannot be read ({first_line(error)}); unpack the archives again"
        raise DataError(f"es_imagenet: {text}") from error


def frames(events: list[np.ndarray[Any, Any]], size: tuple[int, int], count: int, side: int) -> Tensor:
    """Returns counts [count, 2, side, side] of the OFF and the ON events, each [N, 3] (row, column, move).

    Frame k of `count` holds the moves whose share of the path it is. Raises ValueError for no events, and for events
    outside of the sensor or the path.
    """
    polarity = np.repeat((0, 1), [len(part) for part in events])
    row, column, move = np.concatenate(events).T
    row, column, move = row + (CENTRED - size[0]) // 2, column + (CENTRED - size[1]) // 2, move - 1
    if not len(row):
        raise ValueError("no events")
    if not 0 <= min(row.min(), column.min()) <= max(row.max(), column.max()) < SENSOR:
        raise ValueError(f"events outside of {SENSOR} x {SENSOR} pixels")
    if not 0 <= move.min() <= move.max() < ES_IMAGENET_MOVES:
        raise ValueError(f"events of moves other than 1 to {ES_IMAGENET_MOVES}")
    sensor = np.zeros((ES_IMAGENET_MOVES, 2, SENSOR, SENSOR), dtype=bool)
    sensor[move, polarity, row, column] = True
    move, polarity, row, column = sensor[:, :, MARGIN : MARGIN + CROP, MARGIN : MARGIN + CROP].nonzero()
    frame = move * count // ES_IMAGENET_MOVES
    pixel = ((frame * 2 + polarity) * side + row * side // CROP) * side + column * side // CROP
    counts = np.bincount(pixel, minlength=count * 2 * side * side)
    return torch.from_numpy(counts.astype(np.int16)).view(count, 2, side, side)
