from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from results import FrontPoint, ResultsError, StudyResult
from results.picks import parse_floors, parse_pick, pick

Make = Callable[..., StudyResult]


def named(points: list[FrontPoint]) -> list[tuple[int, int]]:
    return [(point.trial, point.read_step) for point in points]


@pytest.fixture
def study(make_study: Make) -> StudyResult:
    """Front: (1, 1), (0, 2), (0, 1), (2, 1); its knee is trial 0 after one step."""
    return make_study([(85.0, 0.20), (88.0, 0.50)], [(90.0, 0.95)], [(50.0, 0.1)], [(84.0, 0.99)])


def test_front_picks_the_whole_front_best_first(study: StudyResult) -> None:
    assert named(pick(study, "front")) == [(1, 1), (0, 2), (0, 1), (2, 1)]


def test_knee_picks_the_knee(study: StudyResult) -> None:
    assert named(pick(study, "knee")) == [(0, 1)]


def test_a_floor_applies_before_the_knee_is_computed(study: StudyResult) -> None:
    assert named(pick(study, "knee", {"accuracy": 86.0})) == [(1, 1)]
    assert named(pick(study, "front", {"accuracy": 86.0})) == [(1, 1), (0, 2)]


def test_best_follows_the_direction_of_the_metric(study: StudyResult) -> None:
    assert named(pick(study, "best:accuracy")) == [(1, 1)]
    assert named(pick(study, "best:spike_rate")) == [(2, 1)]
    assert named(pick(study, "best:images_per_s")) == [(1, 1)]  # all tie: the best accuracy


def test_cheapest_is_the_smallest_cost_above_the_floor(study: StudyResult) -> None:
    assert named(pick(study, "cheapest:synops", {"accuracy": 80.0})) == [(0, 1)]
    assert named(pick(study, "cheapest:synops")) == [(2, 1)]


def test_a_trial_is_picked_by_number_or_key(study: StudyResult) -> None:
    assert named(pick(study, "trial:3")) == [(3, 1)]
    assert named(pick(study, "trial:t0000")) == [(0, 2)]


def test_a_read_step_replaces_that_of_the_pick(study: StudyResult) -> None:
    assert named(pick(study, "trial:0", read_step=1)) == [(0, 1)]
    assert named(pick(study, "front", read_step=1)) == [(1, 1), (0, 1), (2, 1)]
    with pytest.raises(ResultsError, match="trial 1 has no read-out after 2 steps; it has: 1"):
        pick(study, "front", read_step=2)


def test_a_failed_trial_is_refused_with_its_reason(study: StudyResult) -> None:
    failed = dataclasses.replace(study.trials[3], state="failed", failure_class="silent", failure_reason="no spikes")
    study = dataclasses.replace(study, trials=(*study.trials[:3], failed))
    with pytest.raises(ResultsError, match=r"trial 3 failed \(silent: no spikes\)"):
        pick(study, "trial:3")


def test_an_unreachable_floor_names_the_best_value(study: StudyResult) -> None:
    with pytest.raises(ResultsError, match=r"^no full-fidelity trial satisfies accuracy >= 92; the best has 90$"):
        pick(study, "cheapest:synops", {"accuracy": 92.0})
    with pytest.raises(ResultsError, match=r"trial 3 does not satisfy accuracy >= 92; it has accuracy 84"):
        pick(study, "trial:3", {"accuracy": 92.0})


def test_a_floor_that_only_points_off_the_front_reach_is_explained(make_study: Make) -> None:
    study = make_study([(90.0, 0.1)], [(80.0, 0.2)])
    with pytest.raises(ResultsError, match="no point of the front satisfies spikes >= 1500; the best has 1000"):
        pick(study, "front", {"spikes": 1500.0})


def test_a_study_without_full_fidelity_names_the_number_of_trials(make_study: Make, study: StudyResult) -> None:
    running = [dataclasses.replace(trial, state="running") for trial in study.trials]
    with pytest.raises(ResultsError, match="0 of 4 trials are at full fidelity, --pick trial:N takes one that is not"):
        pick(dataclasses.replace(study, trials=tuple(running)), "knee")
    with pytest.raises(ResultsError, match="1 of 1 trials are at full fidelity, none of them within the constraints"):
        pick(make_study([(50.0, 0.1)], constraints={"accuracy": {"min": 60}}), "front")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kne", "must be knee, front, best:METRIC, cheapest:METRIC or trial:N. Did you mean knee?"),
        ("best", "must be of the form best:accuracy"),
        ("knee:accuracy", "must be of the form knee"),
        ("best:acuracy", "acuracy: unknown metric"),
        ("best:acuracy", "Did you mean accuracy?"),
        ("cheapest:accuracy", "accuracy is not a cost; use best:accuracy"),
        ("best:acc", "--pick best:acc: acc: unknown metric"),
        ("best:acc", "Did you mean accuracy?"),
        ("cheapest:energy", "Did you mean energy_mj?"),
        ("trial:one", "--pick trial:one: must be a trial's number or name, such as 31 or t0031 (got 'one')"),
        ("trial:-1", "must be a trial's number or name"),
        ("trial:tt1", "must be a trial's number or name"),
    ],
)
def test_an_invalid_pick_is_explained(text: str, message: str) -> None:
    with pytest.raises(ResultsError) as caught:
        parse_pick(text)
    assert message in str(caught.value)


def test_floors_are_parsed() -> None:
    assert parse_floors(["accuracy=92", "images_per_s = 1e3"]) == {"accuracy": 92.0, "images_per_s": 1000.0}


@pytest.mark.parametrize("text", ["accuracy", "accuracy=high", "accuracy=nan", "=3", "acc=3"])
def test_an_invalid_floor_is_explained(text: str) -> None:
    with pytest.raises(ResultsError, match=f"--at-least {text}: "):
        parse_floors([text])
