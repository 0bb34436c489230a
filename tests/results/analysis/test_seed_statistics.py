"""Pooled deviations and resampled fronts."""

from __future__ import annotations

import numpy as np
import pytest

from results.analysis import seed_statistics


def test_the_noise_is_pooled_over_points_of_unequal_seeds() -> None:
    deviations, degrees = seed_statistics.pooled_deviations([[[0.0], [2.0]], [[5.0]], [[1.0], [1.0], [1.0]]])
    assert degrees == 3
    assert deviations == pytest.approx([np.sqrt(2.0 / 3.0)])


def test_shares_separate_reliable_points_from_lucky_ones() -> None:
    samples = {"sure": [[0.0, 0.0], [0.1, 0.0]], "close": [[-0.5, 0.5], [0.9, 0.5]], "beaten": [[4.0, 4.0], [5.0, 5.0]]}
    within: dict[str, list[list[float]]] = {key: [[] for _ in sample] for key, sample in samples.items()}
    shares = seed_statistics.front_shares(samples, within)
    assert shares["sure"] == 1.0
    assert 0.1 < shares["close"] < 0.9
    assert shares["beaten"] == 0.0
    assert shares == seed_statistics.front_shares(samples, within)


def test_a_resample_whose_mean_exceeds_a_bound_is_off_the_front() -> None:
    samples = {"near": [[0.0, 0.0], [0.0, 0.0]], "within": [[1.0, 1.0], [1.0, 1.0]], "beyond": [[0.0, 0.0]]}
    violations = {"near": [[-1.0], [0.5]], "within": [[-1.0], [-1.0]], "beyond": [[0.1]]}
    shares = seed_statistics.front_shares(samples, violations)
    assert shares["near"] == pytest.approx(0.75, abs=0.05)
    assert shares["within"] == pytest.approx(0.25, abs=0.05)
    assert shares["beyond"] == 0.0
