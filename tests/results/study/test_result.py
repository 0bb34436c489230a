from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import ResultsError, StudyResult, TrialResult
from results.analysis.front import hypervolume

Make = Callable[..., StudyResult]


def test_metrics_are_those_of_the_last_epoch() -> None:
    trial = TrialResult(31, "running", {"step": 4}, epochs=({"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}))
    assert trial.key == "t0031"
    assert trial.metrics == {"loss": 1.0}
    assert trial.num_epochs == 2
    assert trial.curve("loss") == [(1, 2.0), (2, 1.0)]


def test_a_trial_before_its_first_epoch_has_no_metrics_and_no_points() -> None:
    trial = TrialResult(0, "running", {"step": 4})
    assert (trial.metrics, trial.num_epochs, trial.points()) == ({}, 0, [])
    assert trial.point().metrics == {}


def test_a_read_out_overrides_the_trials_metrics(make_study: Make) -> None:
    early, last = make_study([(80.0, 0.1), (90.0, 0.2)]).trial(0).points()
    assert (early.read_step, early.metrics["accuracy"], early.metrics["params_m"]) == (1, 80.0, 4.5)
    assert (last.read_step, last.metrics["accuracy"]) == (2, 90.0)
    assert early.params == {"step": 2}


def test_a_trial_without_read_outs_has_the_point_of_its_read_step() -> None:
    trial = TrialResult(0, "complete", {"step": 4, "read_step": 3}, epochs=({"epoch": 1, "accuracy": 5.0},))
    assert [(point.read_step, point.metrics["accuracy"]) for point in trial.points()] == [(3, 5.0)]


def test_a_read_out_that_does_not_exist_is_refused_by_name(make_study: Make) -> None:
    with pytest.raises(ResultsError, match="trial 0 has no read-out after 3 steps; it has: 1, 2"):
        make_study([(80.0, 0.1), (90.0, 0.2)]).trial(0).point(3)


def test_a_trial_that_does_not_exist_is_refused_with_the_existing_ones(make_study: Make) -> None:
    with pytest.raises(ResultsError, match="there is no trial 5 in quickstart; it has 2 from 0 to 1"):
        make_study([(1.0, 0.1)], [(2.0, 0.1)]).trial(5)


def test_the_front_holds_the_non_dominated_read_outs_best_first(make_study: Make) -> None:
    study = make_study([(80.0, 0.10), (90.0, 0.20)], [(85.0, 0.30)], [(70.0, 0.05)])
    assert [(point.trial, point.read_step) for point in study.front()] == [(0, 2), (0, 1), (2, 1)]


def test_equal_points_are_reduced_to_the_lowest_trial_and_earliest_read_out(make_study: Make) -> None:
    study = make_study([(1.0, 0.5)], [(90.0, 0.2), (90.0, 0.2)], [(90.0, 0.2)])
    assert [(point.trial, point.read_step) for point in study.front()] == [(1, 1)]


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_only_trials_at_full_fidelity_reach_the_front(make_study: Make, state: str) -> None:
    study = make_study([(80.0, 0.1)], [(99.0, 0.01)])
    second = dataclasses.replace(study.trials[1], state=state)
    study = dataclasses.replace(study, trials=(study.trials[0], second))
    assert [point.trial for point in study.front()] == [0]


def test_a_constraint_on_a_metric_holds_for_each_point(make_study: Make) -> None:
    limits = {"accuracy": {"min": 75}, "spike_rate": {"max": 0.25}}
    study = make_study([(60.0, 0.05), (80.0, 0.1), (90.0, 0.3)], constraints=limits)
    assert [point.read_step for point in study.front()] == [2]


def test_missing_or_infinite_values_give_no_point(make_study: Make) -> None:
    study = make_study([(80.0, math.inf)], [(math.nan, 0.1)], [(70.0, 0.1)])
    assert [point.trial for point in study.points()] == [2]
    assert make_study([(80.0, 0.1)], constraints={"flops": {"max": 1}}).points() == []


def test_one_objective_leaves_one_best_point(make_study: Make) -> None:
    study = make_study([(80.0, 0.1)], [(90.0, 0.9)], objectives={"accuracy": "maximize"})
    assert [point.trial for point in study.front()] == [1]


def test_the_knee_is_on_the_front_and_an_empty_front_has_none(make_study: Make) -> None:
    study = make_study([(90.0, 0.9)], [(88.0, 0.2)], [(50.0, 0.1)])
    assert study.knee() == study.front()[1]
    assert make_study().knee() is None


def test_a_read_out_at_chance_is_off_the_front_however_cheap_it_is() -> None:
    read_outs = (
        {"read_step": 1, "accuracy": 12.0, "chance": 13.5, "spike_rate": 0.001},
        {"read_step": 2, "accuracy": 90.0, "chance": 13.5, "spike_rate": 0.1},
    )
    epochs = ({"epoch": 1, "accuracy": 90.0, "spike_rate": 0.1},)
    trial = TrialResult(0, "complete", {"step": 2}, epochs=epochs, read_outs=read_outs)
    study = StudyResult("s", {"accuracy": "maximize", "spike_rate": "minimize"}, (), 1, trials=(trial,))
    assert [point.read_step for point in study.front()] == [2]


@given(
    st.lists(st.lists(st.tuples(st.integers(5, 20), st.integers(1, 6)), min_size=1, max_size=3), max_size=12),
    st.sampled_from(["spike_rate", "synops"]),
)
def test_a_study_reduced_after_each_trial_has_the_front_and_hypervolume_of_all_trials(
    rows: list[list[tuple[int, int]]], second: str
) -> None:
    complete = StudyResult("s", {"accuracy": "maximize", second: "minimize"}, (), 1)
    reduced = complete
    for number, read_outs in enumerate(rows):
        measured = [{"read_step": t, "accuracy": float(a), second: b / 8} for t, (a, b) in enumerate(read_outs, 1)]
        trial = TrialResult(
            number, "complete", {"num_classes": 10}, epochs=({"epoch": 1, "chance": 8.0},), read_outs=tuple(measured)
        )
        complete = dataclasses.replace(complete, trials=(*complete.trials, trial))
        reduced = reduced.with_trial(trial).reduced_to_front()
        assert reduced.front() == complete.front()
        assert hypervolume(reduced) == pytest.approx(hypervolume(complete), rel=1e-12)
        assert len(reduced.trials) <= len(complete.front()) + 2
