"""Interquartile means, intervals and speed-ups."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import robust

GRID = np.arange(0.0, 101.0)


def rising(reached: float, final: float, repeats: int = 4) -> robust.Floats:
    """Returns curves that rise evenly to `final` at `reached` epochs, and stay there."""
    return np.tile(final * np.minimum(GRID / reached, 1.0), (repeats, 1))


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    assert robust.iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])) == pytest.approx(3.5)


def test_curves_are_read_on_a_grid_of_spent_epochs() -> None:
    rows = robust.matrix([[(0.0, 0.0), (2.0, 0.5)], [(0.0, 0.0), (1.0, 0.2), (3.0, 0.9)]], np.arange(5.0))
    assert rows.tolist() == [[0.0, 0.0, 0.5, 0.5, 0.5], [0.0, 0.2, 0.2, 0.9, 0.9]]


def test_a_speedup_is_the_ratio_of_epochs_to_where_the_rival_ends() -> None:
    found = robust.speedup(rising(80, 0.8), rising(25, 1.0), GRID, num_bootstraps=20)
    assert found["rival_epochs"] == 80
    assert found["our_epochs"] == 20
    assert (found["value"], found["low"], found["high"]) == (4.0, 4.0, 4.0)
    assert not found["is_bound"]


def test_a_rival_that_stagnates_has_the_ratio_of_its_last_gain() -> None:
    assert robust.ratio(rising(10, 0.8), rising(10, 0.8), GRID) == 1.0


def test_a_rival_may_end_before_ours() -> None:
    assert robust.ratio(rising(40, 0.5)[:, :51], rising(100, 1.0), GRID) == pytest.approx(40 / 50)


def test_a_target_that_is_never_reached_counts_all_epochs_and_is_marked() -> None:
    found = robust.speedup(rising(50, 0.9), rising(10, 0.8), GRID, num_bootstraps=20)
    assert found["is_bound"]
    assert found["value"] == 0.5


def test_an_interval_holds_the_figure_and_shrinks_with_repeats() -> None:
    values = np.random.default_rng(1).normal(size=400)
    widths = []
    for repeats in (20, 400):
        found = robust.interval(lambda rows: float(robust.iqm(values[rows])), repeats, num_bootstraps=300)
        assert found["low"] < found["value"] < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < widths[0] / 2
