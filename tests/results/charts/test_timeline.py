from __future__ import annotations

import dataclasses

import pytest

from results import StudyResult
from results.charts.timeline import timeline_chart


@pytest.fixture
def timed(many_trials: StudyResult) -> StudyResult:
    """The random trials, two at a time, with epochs of a minute."""
    found = []
    for trial in many_trials.trials:
        started = 1e9 + 600.0 * (trial.number // 2)
        times = tuple(started + 60.0 * int(epoch["epoch"]) for epoch in trial.epochs)
        found.append(dataclasses.replace(trial, started=started, times=times, ended=times[-1]))
    return dataclasses.replace(many_trials, trials=tuple(found))


def test_every_trial_has_a_bar_of_its_length_on_one_of_the_workers(timed: StudyResult) -> None:
    chart = timeline_chart(timed)
    bars = {
        point[0]: (trace["name"].split(" ")[0], start, length, worker)
        for trace in chart["data"]
        for point, start, length, worker in zip(trace["customdata"], trace["base"], trace["x"], trace["y"], strict=True)
    }
    assert bars.keys() == {trial.number for trial in timed.trials}
    for trial in timed.trials:
        state, start, length, worker = bars[trial.number]
        assert state == trial.state
        assert length == pytest.approx(trial.num_epochs / 60, rel=1e-5)  # hours
        assert worker in (1, 2)
        assert start >= 0
    assert chart["layout"]["xaxis"]["title"]["text"] == "Hours of the search"


def test_a_study_from_mlflow_has_no_timeline(many_trials: StudyResult) -> None:
    assert timeline_chart(many_trials)["data"] == []


def test_a_short_search_is_drawn_in_minutes(timed: StudyResult) -> None:
    short = dataclasses.replace(timed, trials=timed.trials[:4])
    assert timeline_chart(short)["layout"]["xaxis"]["title"]["text"] == "Minutes of the search"


def test_the_front_is_sought_once_for_all_bars(timed: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    from results.charts import timeline

    calls: list[StudyResult] = []
    monkeypatch.setattr(timeline, "highlighted_trials", lambda study: calls.append(study) or {})
    timeline.timeline_chart(timed)
    assert len(calls) == 1
