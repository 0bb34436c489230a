from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from results import StudyResult, TrialResult, load
from results.analysis.timeline import has_times, runs, search_hours


def trial(number: int, started: float, times: list[float], pauses: tuple[int, ...] = (), **more: Any) -> TrialResult:
    epochs = tuple({"epoch": index, "accuracy": 50.0} for index in range(1, len(times) + 1))
    state = more.pop("state", "complete")
    return TrialResult(number, state, {}, {}, epochs, started=started, times=tuple(times), pauses=pauses, **more)


def spans(*trials: TrialResult, **attrs: Any) -> list[tuple[int, float, float, int]]:
    study = StudyResult("s", {"accuracy": "maximize"}, (), 9, trials=trials, attrs=attrs)
    return [(run.trial.number, run.start, run.end, run.slot) for run in runs(study)]


def test_trials_that_ran_at_the_same_time_are_on_different_slots() -> None:
    assert spans(trial(0, 0, [10, 20]), trial(1, 5, [15]), trial(2, 20, [30])) == [
        (0, 0, 20, 0),
        (1, 5, 15, 1),
        (2, 20, 30, 0),
    ]


def test_a_paused_trial_resumes_one_typical_epoch_before_its_next_one_ends() -> None:
    paused = trial(0, 100, [110, 120, 190, 200], pauses=(2,))
    assert spans(paused) == [(0, 100, 120, 0), (0, 180, 200, 0)]


def test_a_trial_that_resumes_at_once_has_one_stretch() -> None:
    assert spans(trial(0, 100, [110, 120, 131, 141], pauses=(2,))) == [(0, 100, 141, 0)]


def test_a_search_that_was_resumed_the_next_day_has_a_break_in_its_trial() -> None:
    day = 86_400.0
    assert spans(trial(0, 100, [110, 120, day, day + 10])) == [(0, 100, 120, 0), (0, day - 10, day + 10, 0)]


def test_the_estimated_start_after_a_pause_waits_for_a_free_slot() -> None:
    trials = (trial(0, 0, [10, 20, 40, 50], pauses=(2,)), trial(1, 20, [33]))
    assert spans(*trials, together=1) == [(0, 0, 20, 0), (1, 20, 33, 0), (0, 33, 50, 0)]
    assert max(slot for *_, slot in spans(*trials)) == 1


def test_failed_and_running_trials_end_at_their_failure_and_at_the_newest_moment() -> None:
    failed = trial(0, 0, [], state="failed", ended=7.0)
    later_failed = trial(1, 0, [10], state="failed", ended=14.0)
    running = trial(2, 2, [12], state="running")
    assert spans(failed, later_failed, running) == [(0, 0, 7, 0), (1, 0, 14, 1), (2, 2, 14, 2)]


def test_a_trial_stopped_while_it_was_paused_ends_at_its_last_epoch() -> None:
    assert spans(trial(0, 0, [10, 20], pauses=(2,), state="stopped", ended=500.0)) == [(0, 0, 20, 0)]
    assert spans(trial(0, 0, [10, 20], pauses=(2,), state="failed", ended=500.0)) == [(0, 0, 20, 0)]


def test_hours_count_without_the_time_when_no_trial_ran() -> None:
    study = StudyResult(
        "s", {}, (), 9, trials=(trial(0, 0, [3600]), trial(1, 3630, [7200]), trial(2, 90_000, [93_600]))
    )
    hours = search_hours(runs(study))
    assert [hours(moment) for moment in (0, 3600, 7200, 50_000, 90_000, 93_600)] == pytest.approx([0, 1, 2, 2, 2, 3])


def test_a_study_without_times_has_no_timeline(many_trials: StudyResult) -> None:
    assert not has_times(many_trials)
    assert runs(many_trials) == []
    assert search_hours([])(5.0) == 0


def test_a_stored_study_has_the_pauses_and_ends_of_its_trials(study_folder: Any) -> None:
    import optuna

    study = optuna.load_study(study_name="quickstart", storage=f"sqlite:///{study_folder / 'study.db'}")
    attrs = study.trials[2].user_attrs["epoch_0001"]
    new = optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE,
        values=[1.0, 1.0],
        user_attrs={**study.trials[2].user_attrs, "epoch_0001": {**attrs, "outcome": "pause"}, "epoch_0002": attrs},
    )
    study.add_trial(new)
    added = load(study_folder).trials[-1]
    assert added.pauses == (1,)
    assert added.ended is not None
    assert dataclasses.replace(added, pauses=()) == added
