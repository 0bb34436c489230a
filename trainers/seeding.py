"""The only place that seeds global generators: a training's, and for the while of one image those that timm uses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, epoch: int) -> None:
    """Seeds every generator from (seed, epoch), so that an epoch's draws do not depend on how one came to it.

    Epoch 0 is the initialisation. timm draws from the global generators of Python and NumPy; nothing else here may.
    """
    words = np.random.SeedSequence((seed, epoch)).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]) % 2**32)
    torch.manual_seed(int(words[2]) % 2**63)


@contextmanager
def seeded(seed: int, item: int) -> Iterator[None]:
    """Inside, all draws on the CPU come from (seed, item); afterwards the generators are where they were."""
    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed_everything(seed, item)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


class GeneratorState:
    """A training's own place in the generators, where several take turns: `with stream:` its draws go on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._places: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        if self._places is not None:
            python, numpy, torch_place, *cuda = self._places
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_rng_state(torch_place)
            if cuda:
                torch.cuda.set_rng_state(cuda[0], self.device)

    def __exit__(self, *error: object) -> None:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        self._places = (random.getstate(), np.random.get_state(), torch.get_rng_state(), *cuda)
