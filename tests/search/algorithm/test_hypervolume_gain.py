"""Expected hypervolume improvement of predicted objectives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results import pareto
from search.algorithm.hypervolume_gain import HypervolumeGain, Scale, improvement_scale, transform


def test_accuracy_and_costs_come_back_from_their_scales() -> None:
    for percent in (10.0, 50.0, 97.3):
        assert improvement_scale("accuracy", np.array(transform("accuracy", percent))) == pytest.approx(percent)
    assert transform("spike_rate", 0.2) - transform("spike_rate", 0.1) == pytest.approx(math.log(2.0))
    assert math.isfinite(transform("synops", 0.0))


def test_a_dominated_prediction_adds_nothing_and_a_better_one_adds_more() -> None:
    points = np.array([[2.0, -1.0], [1.0, -2.0], [-1.0, 0.0]])
    scale = Scale.of(("accuracy", "spike_rate"), (1.0, -1.0), points, {"accuracy": 10.0})
    certain = np.full((3, 2), 1e-6)
    worse, better, best = [0.5, -0.5], [2.5, -1.5], [3.5, -2.5]
    gain = HypervolumeGain(points[:2], scale, seed=0)
    added = gain.expected_improvement(np.array([worse, better, best]), certain)
    assert added[0] == 0.0
    assert 0.0 < added[1] < added[2]
    assert gain.front_probability(np.array([worse, better, best]), certain).tolist() == [0.0, 1.0, 1.0]
    assert 0.0 < gain.front_probability(np.array([worse]), np.full((1, 2), 2.0))[0] < 1.0
    assert (
        HypervolumeGain(points, scale, seed=0).volume
        >= gain.volume
        > HypervolumeGain(points[:0], scale, seed=0).volume
        == 0.0
    )


def test_the_scalarized_volume_is_proportional_to_the_hypervolume() -> None:
    scale = Scale(("loss", "energy_mj"), np.array([-1.0, -1.0]), np.zeros(2), np.ones(2))
    sets = [-np.array(points) for points in ([[0.5, 0.5]], [[0.2, 0.9], [0.8, 0.4]], [[1.0, 1.0], [0.1, 2.0]])]
    ratios = [HypervolumeGain(points, scale, 0).volume / pareto.hypervolume(points, np.zeros(2)) for points in sets]
    assert max(ratios) / min(ratios) == pytest.approx(1.0, abs=0.03)


def test_an_objective_counts_from_its_limit_or_from_its_worst_value() -> None:
    points = np.array([[transform("accuracy", 80.0), -1.0], [transform("accuracy", 40.0), -3.0]])
    scale = Scale.of(("accuracy", "spike_rate"), (1.0, -1.0), points, {"accuracy": 10.0})
    assert scale.reference.tolist() == [10.0, 1.0]
    assert Scale.of(("accuracy", "spike_rate"), (1.0, -1.0), points, {}).reference[0] == pytest.approx(40.0)
    assert (scale.above_reference(points) >= 0.0).all()
