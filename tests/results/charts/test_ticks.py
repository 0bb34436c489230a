from __future__ import annotations

import random

import pytest

from config.distributions import Float, Integer
from results.charts.ticks import ticks


@pytest.mark.parametrize(
    ("axis", "wanted"),
    [
        (Float(1.1, 3.0), [1.5, 2, 2.5, 3]),
        (Float(0.003, 0.03, log=True), [0.003, 0.005, 0.01, 0.02, 0.03]),
        (Float(1e-4, 3e-3, log=True), [1e-4, 3e-4, 1e-3, 3e-3]),
        (Float(1e-8, 1.0, log=True), [1e-8, 1e-6, 1e-4, 1e-2, 1]),
        (Float(1.0, 1.1, log=True), [1, 1.02, 1.04, 1.06, 1.08, 1.1]),
        (Integer(1, 2), [1, 2]),
        (Integer(1, 6), [1, 2, 3, 4, 5, 6]),
        (Integer(0, 100), [0, 20, 40, 60, 80, 100]),
        (Integer(1, 1000, log=True), [1, 10, 100, 1000]),
        (Float(2.0, 2.0), [2]),
    ],
)
def test_ticks_are_round_values_within_the_range(axis: Float | Integer, wanted: list[float]) -> None:
    assert ticks(axis) == pytest.approx(wanted)


def test_every_range_has_three_to_six_ticks_within_it() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        low = 10 ** rng.uniform(-9, 4)
        high = low * (1 + 10 ** rng.uniform(-2, 6))
        for axis in (Float(low, high, log=rng.random() < 0.5), Float(-low, high)):
            found = ticks(axis)
            assert 3 <= len(found) <= 6
            assert found == sorted(set(found))
            assert axis.low * (1 - 1e-6 * (axis.low > 0)) <= found[0] or found[0] == pytest.approx(axis.low)
            assert found[-1] <= high * (1 + 1e-6)
        whole = Integer(int(low), int(low) + rng.randint(1, 10**5), log=False)
        assert all(value == int(value) for value in ticks(whole)[1:-1])
