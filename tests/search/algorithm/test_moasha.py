"""Properties of multi-objective successive halving for any numbers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from search.algorithm import moasha

coordinate = st.one_of(st.floats(-100, 100).map(lambda x: round(x, 9)), st.integers(-3, 3).map(float))
"""Numbers that no change of unit rounds to zero."""
points = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=25)
factors = st.integers(2, 4)


def rung_of(rows: list[tuple[float, float]]) -> dict[int, list[float]]:
    return {7 * i: list(row) for i, row in enumerate(rows)}


def dominates(a: list[float], b: list[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(points, st.randoms(use_true_random=False))
def test_the_order_of_the_trials_changes_no_decision(rows, random) -> None:
    rung = rung_of(rows)
    shuffled = list(rung.items())
    random.shuffle(shuffled)
    for count in range(1, len(rung) + 1):
        assert set(moasha.best(rung, count)) == set(moasha.best(dict(shuffled), count))


@given(points, st.sampled_from([1e-6, 0.125, 3.0, 1e6]), st.sampled_from([0, 1]), factors)
def test_the_unit_of_an_objective_changes_no_decision(rows, unit, axis, factor) -> None:
    rung = rung_of(rows)
    scaled = {n: [x * unit if i == axis else x for i, x in enumerate(point)] for n, point in rung.items()}
    if len({tuple(p) for p in scaled.values()}) < len({tuple(p) for p in rung.values()}):
        return  # numbers so small that the unit makes them one
    for number in rung:
        assert moasha.survives(rung, number, factor) == moasha.survives(scaled, number, factor)


@given(points, factors)
def test_a_trial_that_dominates_all_others_is_never_stopped(rows, factor) -> None:
    rung = rung_of(rows)
    rung[3] = [min(x for x, _ in rows) - 1.0, min(y for _, y in rows) - 1.0]
    assert moasha.survives(rung, 3, factor)


@given(points)
def test_no_trial_is_chosen_without_all_that_dominate_it(rows) -> None:
    rung = rung_of(rows)
    for count in range(1, len(rung) + 1):
        taken = set(moasha.best(rung, count))
        assert len(taken) == count
        assert not any(dominates(rung[out], rung[into]) for into in taken for out in rung.keys() - taken)


@given(points, factors)
def test_exactly_the_stated_share_of_a_full_rung_survives(rows, factor) -> None:
    rung = rung_of(rows)
    surviving = sum(moasha.survives(rung, number, factor) for number in rung)
    assert surviving == (len(rung) if len(rung) < factor else math.ceil(len(rung) / factor))


def test_equal_points_are_decided_by_the_lower_trial_number() -> None:
    assert moasha.best({9: [1.0, 1.0], 4: [1.0, 1.0], 6: [1.0, 1.0]}, 1) == [4]


def test_the_cut_front_keeps_its_ends_and_the_middle_before_neighbours() -> None:
    line = {i: [float(i), float(4 - i)] for i in range(5)}
    assert moasha.best(line, 3) == [0, 4, 2]


def test_one_objective_gives_plain_successive_halving() -> None:
    rung = {i: [value] for i, value in enumerate([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])}
    assert sorted(moasha.best(rung, 2)) == [1, 3]


@given(points, st.randoms(use_true_random=False), factors)
def test_a_rung_filled_point_by_point_decides_as_one_filled_at_once(rows, random, factor) -> None:
    rung = rung_of(rows)
    numbers = list(rung)
    random.shuffle(numbers)
    grown = moasha.PointTable()
    for number in numbers:
        grown[number] = [0.0, 0.0]
        grown[number] = rung[number]
    for number in numbers[::3]:
        del grown[number], rung[number]
    last = set(numbers[1::4])
    assert grown == rung
    assert list(grown) == sorted(rung)
    assert moasha.promotable(grown, factor, 0.1, last) == moasha.promotable(rung, factor, 0.1, last)
    assert moasha.ranks(grown, 2, last) == moasha.ranks(rung, 2, last)
    assert moasha.front(grown, last) == moasha.front(rung, last)


def test_a_trial_that_is_not_in_a_rung_is_not_found() -> None:
    grown = moasha.PointTable({4: [1.0, 2.0]})
    assert 3 not in grown
    assert grown.pop(5, None) is None
    assert grown.pop(4) == [1.0, 2.0]
    assert len(grown) == 0
