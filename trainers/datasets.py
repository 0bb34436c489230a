"""Data set properties that are known without reading any file; imports no torch."""

from __future__ import annotations

import shlex
import warnings
from functools import cache
from pathlib import Path

from config.datasets import DATASETS as DATASETS
from config.datasets import EVENTS as EVENTS
from config.datasets import SOUND as SOUND

TRAIN_IMAGES = {
    "digits": 1500,
    "digits_dvs": 1500,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "smnist": 60_000,
    "psmnist": 60_000,
    "scifar10": 50_000,
    "imagenet": 1_281_167,
    "imagefolder": 10_000,
    "tiny_imagenet": 100_000,
    "cub200": 5_994,
    "stanford_cars": 8_144,
    "stanford_dogs": 12_000,
    "fgvc_aircraft": 3_334,
    "flowers102": 1_020,
    "cifar10_dvs": 9_000,
    "dvs128_gesture": 1_176,
    "n_caltech101": 7_880,
    "n_mnist": 60_000,
    "hardvs": 64_526,
    "es_imagenet": 1_257_035,
    "shd": 8_156,
}
"""Images in the training part of each data set, before the validation split; a guess for `imagefolder`."""

ES_IMAGENET_MOVES = 8
"""Moves of the path by which each recording of ES-ImageNet was made."""

FILES_OF = {"smnist": "mnist", "psmnist": "mnist", "scifar10": "cifar10"}
"""Data sets of pixels as sequences, and the data set whose files they read."""

POLARITY_SUM = ("spikingresformer", 3)
"""The family and in_channels that add the sum of both polarities of events as a third channel."""

ADDS_POLARITIES = ("Prologue", "Encode")
"""The stems that add this channel."""

IMAGES_ONLY = frozenset(
    {"scale", "crop_pct", "interpolation", "train_interpolation", "color_jitter", "reprob", "remode"}
)
"""Keys without effect on events that give a warning; not `ratio`, which a published event recipe sets."""

LISTED = frozenset({"tiny_imagenet", "cub200", "stanford_cars", "stanford_dogs", "fgvc_aircraft", "flowers102"})
"""Data sets of images on disk whose parts and classes are given by published lists."""

TIMM_LOADED = frozenset({"imagenet", "imagefolder"}) | LISTED
"""Data sets of images on disk, which timm's loader augments and normalizes."""

STREAMED = TIMM_LOADED | {"es_imagenet"}
"""Data sets that are read from disk sample by sample; all others are held in memory."""

EMBEDDED = frozenset({"digits", "digits_dvs"})
"""Data sets that come with scikit-learn: none of their files can be missing, and they load at once."""


class DataError(RuntimeError):
    """The data set's files are missing or damaged; the text names the files and the fix."""


def data_remedy(dataset: str, root: Path) -> str:
    """Returns what to do about missing files, as the end of a sentence; `root` is the folder that should hold them."""
    command = f"python -m trainers.fetch {FILES_OF.get(dataset, dataset)} --data-dir {shlex.quote(str(root))}"
    return f"get them with `{command}`, or name their folder with --set data_dir=... (search: --set fixed.data_dir=...)"


def first_line(error: BaseException) -> str:
    """Returns the type of an error and the first line of its text."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def is_hidden(path: Path) -> bool:
    """Returns whether a file or folder is hidden, as those that file managers and notebooks leave behind."""
    return path.name.startswith(".")


@cache
def warn_once(text: str) -> None:
    """Warns of the data once in a process, although a data set is checked and loaded more than once."""
    warnings.warn(text, stacklevel=3)
