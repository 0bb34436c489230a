"""Parts of a data set: the interface `Data`, parts in memory, and stratified sampling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Indices = np.ndarray[Any, Any]

REDUCED_AT_ONCE = 1024
"""Images that are reduced in one step, which bounds the memory of their floats."""


class Data(Protocol):
    """Images with labels, in memory or on disk, that yield batches on one device."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def take(self, index: Indices) -> Self:
        """Returns the chosen images, in ascending order."""

    def to(self, device: torch.device) -> Self: ...

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields full batches of images and labels, in an order from torch's generator; drops the last partial one."""

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images and labels in order, the last partial batch included."""


@dataclass(frozen=True)
class Split:
    """Images [M, C, H, W] as uint8, or event counts [M, T, 2, H, W], and labels [M], on one device."""

    images: Tensor
    labels: Tensor

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Indices) -> Split:
        chosen = torch.from_numpy(np.sort(index))
        return Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = len(self) // size
        order = torch.randperm(len(self))[: batches * size].view(batches, size).to(self.device)
        for index in order:
            yield self.images[index], self.labels[index]

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(torch.split(self.images, size), torch.split(self.labels, size), strict=True)


def num_shared(train: Split, validation: Split) -> int:
    """Returns how many samples of the validation part are in the training part as well, bit by bit."""
    known = set(map(_digest, train.images))
    return sum(digest in known for digest in map(_digest, validation.images))


def _digest(sample: Tensor) -> bytes:
    return hashlib.blake2b(sample.contiguous().numpy().data, digest_size=16).digest()


def stratified(labels: Indices, share: float, seed: int) -> Indices:
    """Returns the indices of `share` of the samples of each class, rounded, sampled by `seed` alone.

    If every class is too small to contribute a sample, the share is sampled from all classes together.
    """
    generator = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        parts.append(members[: round(share * len(members))])
    chosen = np.concatenate(parts)
    if len(chosen) or share == 0.0:
        return chosen
    return generator.permutation(len(labels))[: max(1, round(share * len(labels)))]


def stratified_sample(labels: Indices, size: int, seed: int) -> Indices:
    """Returns the indices of `size` samples, of each class in proportion, sampled by `seed` alone.

    A larger sample of the same labels and seed contains the smaller ones.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    quantiles = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        quantiles[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(quantiles[order], kind="stable")[:size]]


def reduced(images: Tensor, size: int) -> Tensor:
    """Returns uint8 images [M, C, size, size], each pixel the mean of its area, if they were larger; else as given."""
    height, width = images.shape[-2:]
    if min(height, width) < size or height == width == size:
        return images
    parts = (F.interpolate(part.float(), (size, size), mode="area") for part in torch.split(images, REDUCED_AT_ONCE))
    return torch.cat([part.round().to(torch.uint8) for part in parts])
