"""Pooled deviations and resampled fronts."""

from __future__ import annotations

import numpy as np
import pytest

from search.confirmation import statistics


def test_the_noise_is_pooled_over_points_of_unequal_seeds() -> None:
    deviations, degrees = statistics.pooled_deviations([[[0.0], [2.0]], [[5.0]], [[1.0], [1.0], [1.0]]])
    assert degrees == 3
    assert deviations == pytest.approx([np.sqrt(2.0 / 3.0)])


def test_shares_separate_reliable_points_from_lucky_ones() -> None:
    samples = {"sure": [[0.0, 0.0], [0.1, 0.0]], "close": [[-0.5, 0.5], [0.9, 0.5]], "beaten": [[4.0, 4.0], [5.0, 5.0]]}
    shares = statistics.front_shares(samples)
    assert shares["sure"] == 1.0
    assert 0.1 < shares["close"] < 0.9
    assert shares["beaten"] == 0.0
    assert shares == statistics.front_shares(samples)
