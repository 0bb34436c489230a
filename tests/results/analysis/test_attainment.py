from __future__ import annotations

import numpy as np
import pytest

from results.analysis.attainment import attainment_surface


def attained_by(fronts: list[np.ndarray], point: np.ndarray) -> int:
    return sum(bool(np.any(np.all(front <= point, axis=1))) for front in fronts)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_surface_bounds_what_so_many_fronts_attain(count: int) -> None:
    rng = np.random.default_rng(count)
    fronts = [rng.integers(0, 12, (size, 2)).astype(float) for size in (1, 3, 6, 9)]
    surface = attainment_surface(fronts, count)
    for point in np.stack(np.meshgrid(np.arange(13.0), np.arange(13.0)), axis=-1).reshape(-1, 2):
        is_inside = bool(np.any(np.all(surface <= point, axis=1)))
        assert is_inside == (attained_by(fronts, point) >= count)


def test_the_surface_of_one_front_is_its_front() -> None:
    assert attainment_surface([[[3.0, 1.0], [1.0, 2.0], [3.0, 3.0]]], 1).tolist() == [[1.0, 2.0], [3.0, 1.0]]


def test_a_run_without_points_attains_nothing() -> None:
    assert attainment_surface([[[1.0, 2.0]], []], 1).tolist() == [[1.0, 2.0]]
    assert attainment_surface([[[1.0, 2.0]], []], 2).tolist() == []


@pytest.mark.parametrize("count", [0, 3])
def test_more_fronts_than_there_are_cannot_attain(count: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to the number of fronts, 2 .got {count}."):
        attainment_surface([[[1.0, 2.0]], [[2.0, 1.0]]], count)
