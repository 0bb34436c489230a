"""Event-driven products against dense ones, and their additions against a count of every weight that is met."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.chip.machine import events
from models.chip.machine.events import Sides

RNG = np.random.default_rng(0)


def spikes(*shape: int, largest: int = 1, rate: float = 0.3) -> Any:
    """Returns counts 0..largest, most of them 0."""
    return RNG.integers(1, largest + 1, shape) * (RNG.random(shape) < rate)


def dense_conv(x: Any, weight: Any, sides: Sides, groups: int) -> Any:
    out = F.conv2d(
        torch.from_numpy(x).double().reshape(-1, *x.shape[-3:]),
        torch.from_numpy(weight).double(),
        stride=sides.stride,
        padding=sides.padding,
        groups=groups,
    )
    return out.reshape(*x.shape[:-3], *out.shape[1:]).numpy()


@pytest.mark.parametrize(
    ("shape", "out", "sides", "groups"),
    [
        ((6, 7, 5), 8, Sides((3, 3), (1, 1), (1, 1)), 1),
        ((6, 7, 5), 8, Sides((3, 3), (2, 2), (1, 1)), 2),
        ((6, 8, 8), 6, Sides((5, 5), (1, 1), (2, 2)), 6),
        ((3, 9, 9), 4, Sides((7, 7), (2, 2), (3, 3)), 1),
        ((4, 8, 8), 6, Sides((4, 4), (4, 4), (0, 0)), 1),
        ((4, 8, 8), 6, Sides((1, 1), (2, 2), (0, 0)), 2),
        ((4, 1, 9), 6, Sides((1, 5), (2, 2), (0, 1)), 1),
        ((2, 4, 5, 5), 6, Sides((3, 3), (1, 1), (1, 1)), 1),
    ],
)
def test_a_convolution_by_events_is_the_dense_one(shape: tuple[int, ...], out: int, sides: Sides, groups: int) -> None:
    x = spikes(*shape, largest=3)
    weight = RNG.integers(-9, 9, (out, shape[-3] // groups, *sides.kernel))
    found, additions = events.conv(x, events.by_input(weight, groups), sides, groups)
    assert found.dtype == np.int64
    assert np.array_equal(found, dense_conv(x, weight, sides, groups))
    assert additions == dense_conv(x, np.ones_like(weight), sides, groups).sum() > 0


def test_a_silent_input_makes_no_additions() -> None:
    table = events.by_input(np.ones((3, 2, 3, 3)), 1)
    found, additions = events.conv(np.zeros((2, 4, 4)), table, Sides((3, 3), (1, 1), (1, 1)), 1)
    assert additions == 0
    assert not found.any()


@pytest.mark.parametrize("chunk", [1, 7, 2**18])
def test_products_by_either_side_are_equal_and_count_their_own_spikes(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "CHUNK", chunk)
    a, b = spikes(2, 5, 7, largest=2), spikes(2, 7, 3, rate=0.6)
    left, by_left = events.product(a, b)
    right, by_right = events.product_by_right(a, b)
    assert np.array_equal(left, a @ b)
    assert np.array_equal(right, a @ b)
    assert (by_left, by_right) == (a.sum() * 3, b.sum() * 5)


def test_a_product_with_one_matrix_for_all_channels_broadcasts() -> None:
    matrix, x = RNG.standard_normal((4, 4)), spikes(3, 4, 4).astype(float)
    found, additions = events.product_by_right(matrix, x)
    assert np.allclose(found, matrix @ x)
    assert additions == 4 * x.sum()
    assert np.allclose(events.product(x, matrix)[0], x @ matrix)


def test_spikes_of_both_signs_count() -> None:
    found, additions = events.linear(np.array([1, -1, 0]), events.by_column(np.array([[2, 3, 5], [7, 1, 1]])))
    assert found.tolist() == [-1, 6]
    assert additions == 4


def test_padding_never_wins_a_maximum() -> None:
    x = torch.from_numpy(RNG.standard_normal((3, 7, 6))) - 5.0
    sides = Sides((3, 3), (2, 2), (1, 1))
    assert np.array_equal(events.max_pool(x.numpy(), sides), F.max_pool2d(x, 3, 2, 1).numpy())
    whole = (x * 10).long().numpy()
    expected = F.max_pool2d(torch.from_numpy(whole).double(), 3, 2, 1).long()
    assert np.array_equal(events.max_pool(whole, sides), expected.numpy())


def test_windows_are_summed() -> None:
    x = RNG.standard_normal((3, 4, 6))
    found = events.sum_pool(x, Sides((2, 3), (2, 3), (0, 0)))
    assert np.allclose(found, x.reshape(3, 2, 2, 2, 3).sum((2, 4)))
