from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import pareto

Point = tuple[float, ...]


def clouds(objectives: int, smallest: int = 0, largest: int = 12) -> st.SearchStrategy[list[Point]]:
    """Points on a coarse grid, so that ties and duplicates are common."""
    value = st.integers(0, 6).map(float)
    return st.lists(st.tuples(*[value] * objectives), min_size=smallest, max_size=largest)


any_cloud = st.integers(1, 4).flatmap(clouds)
two_or_three = st.integers(2, 3).flatmap(lambda m: clouds(m, smallest=1))
factors = st.floats(1e-3, 1e3)


def oracle_dominates(a: Point, b: Point) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def oracle_front(points: list[Point]) -> list[bool]:
    return [not any(oracle_dominates(other, point) for other in points) for point in points]


def shuffled(points: list[Point], seed: int) -> tuple[list[int], list[Point]]:
    order = random.Random(seed).sample(range(len(points)), len(points))
    return order, [points[position] for position in order]


@given(any_cloud)
def test_a_point_is_non_dominated_exactly_if_no_other_dominates_it(points: list[Point]) -> None:
    assert pareto.non_dominated(points).tolist() == oracle_front(points)


@given(clouds(2, smallest=1))
def test_the_fast_two_objective_path_agrees_with_the_general_one(points: list[Point]) -> None:
    lifted = [(*point, 0.0) for point in points]
    assert pareto.non_dominated(points).tolist() == pareto.non_dominated(lifted).tolist()


@given(any_cloud)
def test_fronts_are_a_partition_and_each_is_the_front_of_the_remaining_points(points: list[Point]) -> None:
    left = list(range(len(points)))
    for front in pareto.non_dominated_sort(points):
        best = oracle_front([points[position] for position in left])
        assert front == [position for position, kept in zip(left, best, strict=True) if kept]
        left = [position for position in left if position not in front]
    assert left == []


@given(any_cloud, st.integers(0, 15))
def test_peeling_stops_with_the_front_that_holds_enough(points: list[Point], enough: int) -> None:
    every, peeled = pareto.non_dominated_sort(points), pareto.non_dominated_sort(points, enough)
    assert peeled == every[: len(peeled)]
    wanted = min(enough, len(points))
    assert sum(map(len, peeled)) >= wanted
    assert sum(map(len, peeled[:-1])) < wanted or not peeled


@given(any_cloud, st.integers(0, 99))
def test_the_order_of_the_points_changes_no_front(points: list[Point], seed: int) -> None:
    order, mixed = shuffled(points, seed)
    renamed = [sorted(order[position] for position in front) for front in pareto.non_dominated_sort(mixed)]
    assert renamed == pareto.non_dominated_sort(points)


@given(two_or_three, factors)
def test_a_positive_factor_on_an_objective_changes_no_choice(points: list[Point], factor: float) -> None:
    stretched = [(point[0] * factor, *point[1:]) for point in points]
    assert pareto.non_dominated_sort(stretched) == pareto.non_dominated_sort(points)
    assert pareto.knee(stretched) == pareto.knee(points)
    nets = [pareto.epsilon_net(pareto.normalize(cloud), 4) for cloud in (points, stretched)]
    assert nets[0] == nets[1]


@given(two_or_three)
def test_a_point_that_dominates_all_ranks_first_by_every_rule(points: list[Point]) -> None:
    ideal = (-1.0,) * len(points[0])
    cloud = [*points, ideal]
    last = len(points)
    assert pareto.non_dominated_sort(cloud)[0] == [last]
    assert pareto.knee(cloud) == last
    assert pareto.epsilon_net(cloud, 1) == [last]


@given(two_or_three)
def test_scaled_objectives_span_0_to_1_or_are_0(points: list[Point]) -> None:
    unit = pareto.normalize(points)
    for column, values in zip(unit.T, zip(*points, strict=True), strict=True):
        assert column.min() == 0.0
        assert column.max() == (1.0 if len(set(values)) > 1 else 0.0)


def oracle_net(points: list[Point], count: int, accepted: list[Point]) -> list[int]:
    picks: list[int] = []
    while len(picks) < min(count, len(points)):
        left = [position for position in range(len(points)) if position not in picks]
        taken = accepted + [points[position] for position in picks]
        if not taken:
            picks.append(min(left, key=lambda position: (points[position], position)))
            continue
        gaps = {position: min(math.dist(points[position], other) for other in taken) for position in left}
        picks.append(next(position for position in left if gaps[position] >= max(gaps.values()) - 1e-9))
    return picks


@given(clouds(2), clouds(2, largest=3), st.integers(0, 14))
def test_the_net_takes_the_farthest_point_each_time(points: list[Point], accepted: list[Point], count: int) -> None:
    assert pareto.epsilon_net(points, count, accepted) == oracle_net(points, count, accepted)


@given(clouds(2, smallest=1).map(lambda points: list(dict.fromkeys(points))))
def test_the_first_pick_of_the_net_does_not_depend_on_the_order(points: list[Point]) -> None:
    order, mixed = shuffled(points, 3)
    assert order[pareto.epsilon_net(mixed, 1)[0]] == pareto.epsilon_net(points, 1)[0]


def test_distances_that_differ_by_rounding_tie_and_the_lower_position_wins() -> None:
    points = [(1.0, 0.0), (0.0, 1.0 + 5e-10), (0.5, 0.5)]
    assert pareto.epsilon_net(points, 1, accepted=[(0.0, 0.0)]) == [0]


def oracle_knee(points: list[tuple[float, float]]) -> int:
    """The definition by the chord's own geometry, without the scaled front's special ends."""
    front = [position for position, kept in enumerate(oracle_front(list(points))) if kept]
    low, high = ([bound(points[i][m] for i in front) for m in (0, 1)] for bound in (min, max))
    unit = {i: [(points[i][m] - low[m]) / ((high[m] - low[m]) or 1.0) for m in (0, 1)] for i in front}
    (ax, ay), (bx, by) = (unit[min(front, key=lambda i: unit[i][m])] for m in (0, 1))
    length = math.hypot(bx - ax, by - ay)
    depth = {i: -((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / (length or 1.0) for i, (x, y) in unit.items()}
    if max(depth.values()) <= 1e-9:
        depth = {i: -max(unit[i]) for i in front}
    return min((i for i in front if depth[i] >= max(depth.values()) - 1e-9), key=lambda i: (points[i], i))


@given(clouds(2, smallest=1))
def test_the_knee_is_the_point_farthest_below_the_chord(points: list[tuple[float, float]]) -> None:
    assert pareto.knee(points) == oracle_knee(points)


@given(two_or_three, st.integers(0, 99))
def test_the_order_of_the_points_does_not_move_the_knee(points: list[Point], seed: int) -> None:
    _, mixed = shuffled(points, seed)
    assert mixed[pareto.knee(mixed)] == points[pareto.knee(points)]


def test_the_knee_of_two_points_is_the_better_in_the_first_objective() -> None:
    assert pareto.knee([(2.0, 1.0), (1.0, 2.0)]) == 1
    assert pareto.knee([(3.0, 3.0)]) == 0


def test_a_bulge_away_from_the_ideal_is_not_a_knee() -> None:
    assert pareto.knee([(0.0, 10.0), (4.0, 5.0), (9.5, 4.0), (10.0, 0.0)]) == 1


def test_the_knee_of_three_objectives_is_nearest_to_the_ideal() -> None:
    assert pareto.knee([(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.4, 0.4, 0.4)]) == 3


def test_a_knee_needs_a_point() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        pareto.knee([])


def grid_volume(points: list[Point], corner: Point) -> int:
    """Counts the unit cells of an integer grid that some point dominates."""
    cells = itertools.product(*(range(int(limit)) for limit in corner))
    return sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)


@given(st.integers(1, 4).flatmap(lambda m: clouds(m, largest=7)))
@settings(max_examples=60)
def test_the_hypervolume_is_the_number_of_dominated_grid_cells(points: list[Point]) -> None:
    corner = (5.0,) * (len(points[0]) if points else 2)
    assert pareto.hypervolume(points, corner) == pytest.approx(grid_volume(points, corner), abs=1e-9)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=5))
@settings(max_examples=60)
def test_the_hypervolume_equals_inclusion_and_exclusion(points: list[Point]) -> None:
    corner = np.ones(3)
    total = 0.0
    for size in range(1, len(points) + 1):
        for group in itertools.combinations(points, size):
            total -= (-1) ** size * float(np.prod(corner - np.max(group, axis=0)))
    assert pareto.hypervolume(points, corner) == pytest.approx(total, abs=1e-9)


@given(clouds(2, smallest=1), st.integers(0, 99))
def test_the_hypervolume_does_not_depend_on_order_or_duplicates(points: list[Point], seed: int) -> None:
    _, mixed = shuffled([*points, points[0]], seed)
    assert pareto.hypervolume(mixed, (7.0, 7.0)) == pytest.approx(pareto.hypervolume(points, (7.0, 7.0)))


def test_points_worse_than_the_reference_add_nothing() -> None:
    assert pareto.hypervolume([(1.0, 1.0), (0.0, 9.0)], (2.0, 3.0)) == 2.0
    assert pareto.hypervolume([], (2.0, 3.0)) == 0.0


def test_maximised_columns_are_negated() -> None:
    assert pareto.minimised([(90.0, 0.1)], ["maximize", "minimize"]).tolist() == [[-90.0, 0.1]]


def test_nan_and_infinity_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        pareto.non_dominated([(math.nan, 1.0)])
    with pytest.raises(ValueError, match="must be finite"):
        pareto.non_dominated_sort([(math.inf, 1.0)])
