from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from search.simulation.evaluation import Evaluator, first_at, value_at
from search.simulation.recorded_curves import Curve
from search.simulation.simulator import Event, EventKind, Trace
from search.space.space import Space
from tests.support.synthetic_curves import Synthetic, make_space, make_table
from trainers.epoch_metrics import EpochMetrics

SPACE = make_space()
GOALS = {"accuracy": "maximize", "spike_rate": "minimize"}


@dataclass
class Made:
    """A table of one epoch: for each config its (accuracy, spike rate) by seed; None where the training failed."""

    ends: list[list[tuple[float, float] | None]]
    space: Space = SPACE
    epochs: int = 1

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(len(self.ends[0])))

    @property
    def configs(self) -> tuple[dict[str, Any], ...]:
        return tuple({"config": index} for index in range(len(self.ends)))

    def index(self, values: Any) -> int:
        return int(values["config"])

    def curve(self, index: int, seed_position: int) -> Curve:
        end = self.ends[index][seed_position]
        if end is None:
            return Curve((), (), ("silent", 0.5))
        metrics = {"accuracy": end[0], "spike_rate": end[1]}
        return Curve((EpochMetrics(1, metrics, [{"read_step": 1, "chance": 13.0, **metrics}], []),), (1.0,), None)


def trace(*events: tuple[int, EventKind, float]) -> Trace:
    """Returns a trace of (config, state, spent); each config is one trial of its own."""
    return Trace(1, 1, [Event(spent, spent, config, config, 1, state) for config, state, spent in events])


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


def test_the_volume_is_that_over_accuracy_and_the_logarithm_of_the_rate() -> None:
    judge = Evaluator(Made([[(90.0, 0.1)], [(60.0, 0.01)], [(50.0, 1.0)]]))
    assert judge.best == pytest.approx(80 * 1 + 50 * 1)  # decades below the largest rate, points above chance (10 %)
    assert judge.share([0]) == pytest.approx(80 / 130)
    assert judge.share([2]) == 0.0
    assert judge.share([0, 1, 2]) == 1.0


def test_a_config_is_worth_its_mean_over_the_seeds() -> None:
    lucky = Evaluator(Made([[(99.0, 0.1), (61.0, 0.1)], [(80.0, 1.0), (80.0, 1.0)]]))
    assert lucky.points[0].tolist() == [[-80.0, pytest.approx(-1.0)]]


def test_configs_that_fail_or_do_not_beat_chance_have_no_points() -> None:
    judge = Evaluator(Made([[(90.0, 0.1), None], [(12.0, 0.001), (13.0, 0.001)], [(80.0, 0.5), (80.0, 0.5)]]))
    assert [len(points) for points in judge.points] == [0, 0, 1]
    assert judge.front == {2}
    assert judge.ranked() == [2]


def test_only_trials_trained_in_full_count_and_each_config_once() -> None:
    judge = Evaluator(Made([[(90.0, 0.1)], [(60.0, 0.01)], [(50.0, 1.0)]]))
    curve = judge.curve(trace((1, "stop", 1), (0, "complete", 5), (0, "complete", 7), (1, "complete", 9)))
    assert curve == [(0.0, 0.0), (5, pytest.approx(80 / 130)), (9, pytest.approx(1.0))]


def test_read_outs_count(table: Synthetic) -> None:
    judge = Evaluator(table)
    steps = [len(judge.points[index]) for index, values in enumerate(table.configs) if values["step"] == 4]
    assert set(steps) == {0, 4}


def test_everything_is_all_there_is_for_either_pair_of_objectives(table: Synthetic) -> None:
    for goals in (GOALS, {"accuracy": "maximize", "synops": "minimize"}):
        judge = Evaluator(table, goals)
        assert judge.share(range(len(table.configs))) == 1.0
        assert judge.share(judge.front) == pytest.approx(1.0)
        assert all(judge.share(judge.front - {member}) < 1.0 for member in judge.front)


def test_false_stops_are_members_of_the_front_that_were_started_and_not_trained_in_full() -> None:
    made = Made([[(90.0, 0.5)], [(80.0, 0.2)], [(70.0, 0.1)], [(60.0, 0.05)], [(30.0, 0.9)]])
    judge = Evaluator(made)
    assert judge.front == {0, 1, 2, 3}
    events = [(0, "start", 0), (0, "complete", 1), (1, "start", 1), (1, "stop", 2), (2, "start", 2), (2, "pause", 3)]
    events += [(4, "start", 3), (4, "stop", 4)]
    assert judge.false_stops(trace(*events)) == (2, 3)
    assert judge.false_stops(trace(*events, (1, "start", 4), (1, "complete", 5))) == (1, 3)
    assert judge.missed(trace(*events)) == {1: "stop 1", 2: "pause 1", 3: "not started"}


def test_the_best_configs_come_first_by_front_and_by_what_they_add() -> None:
    judge = Evaluator(Made([[(30.0, 0.9)], [(90.0, 0.5)], [(80.0, 0.01)], [(89.0, 0.49)], [(20.0, 1.0)]]))
    assert judge.ranked() == [2, 1, 3, 0, 4]


def test_a_curve_is_read_as_steps() -> None:
    curve = [(0.0, 0.0), (10.0, 0.5), (20.0, 0.8)]
    assert [value_at(curve, spent) for spent in (0, 9, 10, 19.5, 99)] == [0.0, 0.0, 0.5, 0.5, 0.8]
    assert [first_at(curve, target) for target in (0.0, 0.3, 0.5, 0.8, 0.9)] == [0.0, 10.0, 10.0, 20.0, float("inf")]
