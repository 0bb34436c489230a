"""Text plots for a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.display import terminal_plots

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, max_size=200), st.integers(1, 60))
def test_a_sparkline_is_as_wide_as_asked_and_ends_with_the_last_value(values: list[float], width: int) -> None:
    line = terminal_plots.sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set(terminal_plots.BLOCKS)
    shown = terminal_plots.thinned(values, width)
    if values:
        assert shown[-1] == values[-1]


def test_a_rising_sparkline_rises_from_the_lowest_to_the_highest_block() -> None:
    assert terminal_plots.sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == terminal_plots.BLOCKS


def test_values_that_are_not_finite_are_left_out() -> None:
    assert terminal_plots.sparkline([1.0, float("nan"), 2.0], 8) == "▁█"


@given(st.lists(st.tuples(numbers, numbers), max_size=50), st.integers(1, 40), st.integers(1, 12))
def test_a_scatter_fits_its_frame_and_shows_every_marked_point(
    points: list[tuple[float, float]], width: int, height: int
) -> None:
    lines = terminal_plots.scatter(points, points[:3], width, height)
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    assert ("●" in "".join(lines)) == bool(points)


def test_the_best_point_is_at_the_top_left() -> None:
    lines = terminal_plots.scatter([(0.1, 90.0), (0.3, 10.0)], [(0.1, 90.0)], 10, 4)
    assert lines[0].startswith("●")
    assert lines[-1].rstrip() != ""
    assert lines[-1][-1] != " "


def test_a_bar_is_filled_in_proportion() -> None:
    assert terminal_plots.bar(0.5, 4) == "██░░"
    assert terminal_plots.bar(2.0, 4) == "████"
