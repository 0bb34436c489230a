"""Event sets that are too large for memory: recordings read from disk batch by batch, in worker processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.config import TrainConfig
from trainers.data.split import Indices
from trainers.datasets import DataError

READ_FIRST = 500
"""Recordings of each part that are read before the training, evenly spread; all, if there are not more."""

Reader = Callable[[Path, tuple[int, int], TrainConfig], Tensor]
"""Returns the counts [T, 2, H, W] of a recording, from its file and the height and width of its list. Raises DataError.

A function of a module, as worker processes receive it by its name."""


@dataclass(frozen=True)
class EventFiles:
    """Recordings and their labels; batches come as counts [B, T, 2, H, W] of int16, on one device."""

    files: tuple[Path, ...]
    sizes: Tensor
    """Height and width of each recording [M, 2]."""
    labels: Tensor
    read: Reader
    config: TrainConfig
    device: torch.device
    rows: frozenset[int] | None = None
    """Rows of each shuffled batch that are read, None for all; the others are empty, and change no other row."""

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Indices) -> EventFiles:
        chosen = np.sort(index)
        files = tuple(self.files[i] for i in chosen)
        return dataclasses.replace(self, files=files, sizes=self.sizes[chosen], labels=self.labels[chosen])

    def to(self, device: torch.device) -> EventFiles:
        return dataclasses.replace(self, device=device)

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self))[: len(self) // size * size].view(-1, size).tolist()
        rows = range(size) if self.rows is None else self.rows
        yield from self._batches([[i if row in rows else ~i for row, i in enumerate(batch)] for batch in order])

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._batches([part.tolist() for part in torch.split(torch.arange(len(self)), size)])

    def checked(self) -> EventFiles:
        """Returns itself after some recordings have been read. Raises DataError for one that cannot be read."""
        data = _Counts(self)
        for i in np.unique(np.linspace(0, len(self) - 1, min(READ_FIRST, len(self)), dtype=int)):
            data[int(i)]
        return self

    def _batches(self, indices: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        on_cuda = self.device.type == "cuda"
        loader = torch.utils.data.DataLoader(
            _Counts(self), batch_sampler=indices, num_workers=self.config.workers, pin_memory=on_cuda
        )
        try:
            for counts, labels in loader:
                yield counts.to(self.device, non_blocking=on_cuda), labels.to(self.device, non_blocking=on_cuda)
        except DataError as error:  # from a worker process: the text starts with its traceback
            text = str(error).strip().splitlines()[-1]
            raise DataError(text.removeprefix(f"{DataError.__module__}.DataError: ")) from None


class _Counts(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Reads single recordings, or returns empty frames for `~index`."""

    def __init__(self, data: EventFiles) -> None:
        self.files, self.sizes, self.labels = data.files, data.sizes.tolist(), data.labels.tolist()
        self.read, self.config = data.read, data.config

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index < 0:
            side = self.config.img_size
            return torch.zeros(self.config.step, 2, side, side, dtype=torch.int16), self.labels[~index]
        height, width = self.sizes[index]
        return self.read(self.files[index], (height, width), self.config), self.labels[index]
