"""Data sets, with the keys that a train file takes from them; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CIFAR = {"img_size": 32, "in_channels": 3}
_MNIST = {"num_classes": 10, "img_size": 28, "in_channels": 1, "hflip": 0.0}
_IMAGENET = {
    "img_size": 224,
    "in_channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "scale": (0.08, 1.0),
    "ratio": (0.75, 4 / 3),
    "crop_pct": 0.875,
}
_EVENTS = {"img_size": 128, "in_channels": 2, "mean": (0.0, 0.0), "std": (1.0, 1.0)}

DATASETS: dict[str, dict[str, Any]] = {
    "digits": {"num_classes": 10, "img_size": 8, "in_channels": 1, "mean": (0.305,), "std": (0.376,), "hflip": 0.0},
    "digits_dvs": {**_EVENTS, "num_classes": 10, "img_size": 16, "hflip": 0.0},
    "cifar10": {**_CIFAR, "num_classes": 10, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "cifar100": {**_CIFAR, "num_classes": 100, "mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    "mnist": {**_MNIST, "mean": (0.1307,), "std": (0.3081,)},
    "fashion_mnist": {**_MNIST, "mean": (0.2860,), "std": (0.3530,)},
    "smnist": {**_MNIST, "mean": (0.1307,), "std": (0.3081,)},
    "psmnist": {**_MNIST, "mean": (0.1307,), "std": (0.3081,)},
    "scifar10": {**_CIFAR, "num_classes": 10, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "imagenet": {**_IMAGENET, "num_classes": 1000},
    "imagefolder": _IMAGENET,
    "tiny_imagenet": {**_IMAGENET, "num_classes": 200},
    "cub200": {**_IMAGENET, "num_classes": 200},
    "stanford_cars": {**_IMAGENET, "num_classes": 196},
    "stanford_dogs": {**_IMAGENET, "num_classes": 120},
    "fgvc_aircraft": {**_IMAGENET, "num_classes": 100},
    "flowers102": {**_IMAGENET, "num_classes": 102},
    "cifar10_dvs": {**_EVENTS, "num_classes": 10},
    "dvs128_gesture": {**_EVENTS, "num_classes": 11, "hflip": 0.0},  # left and right hands are classes
    "n_caltech101": {**_EVENTS, "num_classes": 101},
    "n_mnist": {**_EVENTS, "num_classes": 10, "img_size": 34, "hflip": 0.0},
    "hardvs": {**_EVENTS, "num_classes": 300},
    "es_imagenet": {**_EVENTS, "num_classes": 1000, "img_size": 224},
    "shd": {
        "num_classes": 20,
        "img_size": 27,
        "in_channels": 1,
        "mean": (0.0,),
        "std": (1.0,),
        "hflip": 0.0,
        "embed_layer": "sequential_embed",
    },
}
"""The data sets, and the keys that a train file takes from them unless it sets them itself."""

SOUND = frozenset({"shd"})
"""Data sets of one row of channels, stored as frames [T, 1, H, W] of counts in row order."""

EVENTS = SOUND | {"digits_dvs", "cifar10_dvs", "dvs128_gesture", "n_caltech101", "n_mnist", "hardvs", "es_imagenet"}
"""Data sets of events: frames [T, 2, H, W] of counts, T = step, channel 0 OFF and channel 1 ON."""


def pixel_range(mean: Sequence[float], std: Sequence[float]) -> tuple[float, float]:
    """Returns the least and the largest value of pixels 0..1 that are normalised by mean and std of each channel."""
    pairs = list(zip(mean, std, strict=True))
    return min((0.0 - m) / s for m, s in pairs), max((1.0 - m) / s for m, s in pairs)
