"""Steps of weights: grids of the training are kept, others get the step of the least squared error."""

from __future__ import annotations

import numpy as np
import pytest

from models.chip.steps import choose_steps, levels, rounded


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("powers_of_two", [False, True])
def test_rows_on_a_grid_keep_their_steps(bits: int, powers_of_two: bool) -> None:
    random = np.random.default_rng(0)
    whole = random.integers(*levels(bits), (6, 50), endpoint=True)
    steps = random.uniform(0.01, 0.3, 6)
    found, is_grid = choose_steps(whole * steps[:, None], bits, powers_of_two=powers_of_two)
    assert is_grid.all()
    np.testing.assert_allclose(found, steps, rtol=1e-9)
    np.testing.assert_array_equal(rounded(whole * steps[:, None], found, bits), whole)


def test_a_grid_of_more_levels_than_the_width_is_none() -> None:
    _, is_grid = choose_steps(np.arange(-100.0, 101.0)[None], 4, powers_of_two=False)
    assert not is_grid.any()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_step_is_at_most_as_wrong_as_that_of_the_largest_weight(bits: int) -> None:
    weight = np.random.default_rng(0).normal(0.0, 1.0, (8, 200))
    step, is_grid = choose_steps(weight, bits, powers_of_two=False)
    largest = np.abs(weight).max(1) / levels(bits)[1]
    error, plain = (((rounded(weight, s, bits) * s[:, None] - weight) ** 2).sum(1) for s in (step, largest))
    assert not is_grid.any()
    assert (error <= plain).all()
    assert error.sum() <= (0.8 if bits == 4 else 1.0) * plain.sum()


def test_steps_can_be_powers_of_two() -> None:
    step, _ = choose_steps(np.random.default_rng(0).normal(0.0, 1.0, (8, 200)), 8, powers_of_two=True)
    np.testing.assert_array_equal(np.log2(step) % 1.0, 0.0)


def test_a_row_of_zeros_has_a_step() -> None:
    step, _ = choose_steps(np.zeros((2, 3)), 8, powers_of_two=False)
    assert (step > 0.0).all()
