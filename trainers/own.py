"""Makes a data set of the user's own known by name; for packages that are loaded with `--import`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainers import data
from trainers.config import DATASETS, TRAIN_IMAGES, TrainConfig
from trainers.data import Split


def register_data_set(
    name: str, load: Callable[[TrainConfig, bool], Split], facts: Mapping[str, Any], train_images: int
) -> None:
    """Registers a data set; doing it again, as each worker does, changes nothing.

    `load(config, True)` returns the training part and `load(config, False)` the test part, the same at every call, and
    raises DataError where files are missing. `facts` are the train-file keys that follow from the data: num_classes,
    img_size, in_channels, mean and std (by channel, in 0..1), and whatever else. `train_images` is for the forecast.
    """
    DATASETS[name] = dict(facts)
    TRAIN_IMAGES[name] = train_images
    data.LOADERS[name] = load
