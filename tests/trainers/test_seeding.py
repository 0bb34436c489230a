from __future__ import annotations

import random

import numpy as np
import torch

from trainers.seeding import GeneratorState, seed_everything, seeded


def sample() -> tuple[float, float, float]:
    """Returns one number of each global generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_numbers_depend_on_seed_and_epoch_only() -> None:
    found = {}
    for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0)):
        seed_everything(seed, epoch)
        numbers = sample()
        assert found.setdefault((seed, epoch), numbers) == numbers
    assert len(set(found.values())) == 3


def test_seeding_within_a_context_leaves_the_generators_as_they_were() -> None:
    seed_everything(3, 0)
    expected = sample(), sample()
    seed_everything(3, 0)
    first = sample()
    with seeded(4, 5):
        inside = sample()
    assert (first, sample()) == expected
    with seeded(4, 5):
        assert sample() == inside


def test_interleaved_trainings_sample_as_single_ones() -> None:
    expected = {}
    for seed in (1, 2):
        seed_everything(seed, 0)
        expected[seed] = [sample() for _ in range(3)]
    states = {seed: GeneratorState(torch.device("cpu")) for seed in (1, 2)}
    found: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
    for step in range(3):
        for seed, state in states.items():
            with state:
                if step == 0:
                    seed_everything(seed, 0)
                found[seed].append(sample())
    assert found == expected
