"""Hypervolumes of simulated searches by the true values of their configs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.simulate import with_overrides
from search.simulation.evaluation import Evaluator, value_at
from search.simulation.simulator import Event, EventType, Trace
from tests.support.synthetic_curves import EndTable, Synthetic, make_table


def trace(*events: tuple[int, EventType, float]) -> Trace:
    """Returns a trace of (config, state, spent), with one trial per config."""
    return Trace(1, [Event(spent, spent, config, config, 1, state) for config, state, spent in events])


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


def test_the_volume_is_that_over_accuracy_and_the_logarithm_of_the_rate() -> None:
    evaluator = Evaluator(EndTable([[(90.0, 0.1)], [(60.0, 0.01)], [(50.0, 1.0)]]))
    assert evaluator.best == pytest.approx(
        80 * 1 + 50 * 1
    )  # decades below the largest rate, points above chance (10 %)
    assert evaluator.share([0]) == pytest.approx(80 / 130)
    assert evaluator.share([2]) == 0.0
    assert evaluator.share([0, 1, 2]) == 1.0


def test_a_config_is_worth_its_mean_over_the_seeds() -> None:
    lucky = Evaluator(EndTable([[(99.0, 0.1), (61.0, 0.1)], [(80.0, 1.0), (80.0, 1.0)]]))
    assert lucky.points[0].tolist() == [[-80.0, pytest.approx(-1.0)]]


def test_configs_that_fail_or_do_not_beat_chance_have_no_points() -> None:
    evaluator = Evaluator(EndTable([[(90.0, 0.1), None], [(12.0, 0.001), (13.0, 0.001)], [(80.0, 0.5), (80.0, 0.5)]]))
    assert [len(points) for points in evaluator.points] == [0, 0, 1]
    assert evaluator.front == {2}
    assert evaluator.non_dominated(range(3)) == {2}


def test_only_trials_trained_in_full_count_and_each_config_once() -> None:
    evaluator = Evaluator(EndTable([[(90.0, 0.1)], [(60.0, 0.01)], [(50.0, 1.0)]]))
    curve = evaluator.curve(trace((1, "stop", 1), (0, "complete", 5), (0, "complete", 7), (1, "complete", 9)))
    assert curve == [(0.0, 0.0), (5, pytest.approx(80 / 130)), (9, pytest.approx(1.0))]


def test_read_outs_count(table: Synthetic) -> None:
    evaluator = Evaluator(table)
    steps = [len(evaluator.points[index]) for index, values in enumerate(table.configs) if values["step"] == 4]
    assert set(steps) == {0, 4}


@pytest.mark.parametrize("cost", ["spike_rate", "synops"])
def test_all_configs_together_have_the_whole_hypervolume(table: Synthetic, cost: str) -> None:
    space = with_overrides(table.space, [f"objectives={{accuracy: maximize, {cost}: minimize}}"])
    evaluator = Evaluator(replace(table, space=space))
    assert evaluator.share(range(len(table.configs))) == 1.0
    assert evaluator.share(evaluator.front) == pytest.approx(1.0)
    assert all(evaluator.share(evaluator.front - {member}) < 1.0 for member in evaluator.front)


def test_false_stops_are_members_of_the_front_that_were_started_and_not_trained_in_full() -> None:
    made = EndTable([[(90.0, 0.5)], [(80.0, 0.2)], [(70.0, 0.1)], [(60.0, 0.05)], [(30.0, 0.9)]])
    evaluator = Evaluator(made)
    assert evaluator.front == {0, 1, 2, 3}
    events = [(0, "start", 0), (0, "complete", 1), (1, "start", 1), (1, "stop", 2), (2, "start", 2), (2, "pause", 3)]
    events += [(4, "start", 3), (4, "stop", 4)]
    assert evaluator.false_stops(trace(*events)) == (2, 3)
    assert evaluator.false_stops(trace(*events, (1, "start", 4), (1, "complete", 5))) == (1, 3)


def test_a_curve_is_read_as_steps() -> None:
    curve = [(0.0, 0.0), (10.0, 0.5), (20.0, 0.8)]
    assert [value_at(curve, spent) for spent in (0, 9, 10, 19.5, 99)] == [0.0, 0.0, 0.5, 0.5, 0.8]
