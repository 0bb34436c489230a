"""Seeding of the global random generators; no other module seeds or restores them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, epoch: int) -> None:
    """Seeds every generator from (seed, epoch), so that an epoch does not depend on those before it.

    Epoch 0 is the initialization. timm uses the global generators of Python and NumPy; nothing else here may.
    """
    words = np.random.SeedSequence((seed, epoch)).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]) % 2**32)
    torch.manual_seed(int(words[2]) % 2**63)


@contextmanager
def seeded(seed: int, item: int) -> Iterator[None]:
    """Seeds the CPU generators from (seed, item) inside the context, and restores them afterwards."""
    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed_everything(seed, item)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


class GeneratorState:
    """Generator state of one of several interleaved trainings: each `with` block continues from the one before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._state: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        if self._state is not None:
            python, numpy, torch_state, cuda = self._state
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_rng_state(torch_state)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, self.device)

    def __exit__(self, *error: object) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        self._state = (random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)
