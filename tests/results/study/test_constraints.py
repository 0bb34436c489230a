"""Constraints that no trial meets: the reason, and the nearest trial."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from results import StudyResult
from results.metrics import ResultsError
from results.picks import pick
from results.study.constraints import broken, empty_front, nearest

Make = Callable[..., StudyResult]
STRICT = {"accuracy": {"min": 99}, "spike_rate": {"max": 0.05}}


def test_the_nearest_point_exceeds_its_bounds_least_relative_to_these(make_study: Make) -> None:
    study = make_study([(98.0, 0.20)], [(60.0, 0.04)], [(90.0, 0.06)], constraints=STRICT)
    point = nearest(study)
    assert point is not None
    assert point.trial == 2
    assert list(broken(study, point)) == ["accuracy 90.00 % (must be >= 99)", "spike_rate 0.06 (must be <= 0.05)"]


def test_the_reason_names_the_constraints_and_the_nearest_trial_with_its_values(make_study: Make) -> None:
    study = make_study([(98.0, 0.20), (97.0, 0.06)], [(60.0, 0.04)], constraints=STRICT)
    problem = "none of 2 full trainings meets the constraints"
    point = "t0000 read at step 2: accuracy 97.00 % (must be >= 99), spike_rate 0.06 (must be <= 0.05)"
    assert empty_front(study) == (problem, point)
    with pytest.raises(ResultsError, match=r"t0000 read at step 2: accuracy 97.00 % \(must be >= 99\)"):
        pick(study, "knee")


def test_a_study_with_candidates_or_without_a_full_training_needs_no_reason(make_study: Make) -> None:
    assert empty_front(make_study([(98.0, 0.2)])) is None
    assert empty_front(make_study(constraints=STRICT)) is None


def test_a_metric_that_was_not_measured_breaks_its_constraint(make_study: Make) -> None:
    study = make_study([(98.0, 0.2)], constraints={"energy_memory_mj": {"max": 1.0}})
    assert empty_front(study) == (
        "no full training meets the constraints",
        "t0000 read at step 1: energy_memory_mj nan (must be <= 1)",
    )
