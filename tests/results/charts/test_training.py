from __future__ import annotations

import pytest

from results import StudyResult, hypervolume
from results.charts.training import curve_charts, hypervolume_charts, rung_charts


def test_curves_count_the_trials_that_are_not_highlighted(many_trials: StudyResult) -> None:
    chart = curve_charts(many_trials)["accuracy"]
    highlighted = [trace["name"] for trace in chart["data"] if trace["name"].startswith("t0")]
    counts = [int(trace["name"].rpartition("(")[2][:-1]) for trace in chart["data"] if "(" in trace["name"]]
    assert sum(counts) + len(highlighted) == sum(bool(trial.curve("accuracy")) for trial in many_trials.trials)


def test_the_hypervolume_ends_at_that_of_the_study(many_trials: StudyResult) -> None:
    (trace,) = hypervolume_charts(many_trials)["by epochs"]["data"]
    assert trace["y"][-1] == pytest.approx(hypervolume(many_trials), rel=1e-5)


def test_a_rung_separates_stopped_trials_from_those_that_continued(many_trials: StudyResult) -> None:
    stopped, continued = rung_charts(many_trials)["epoch 1"]["data"]
    ended = {trial.number for trial in many_trials.select("stopped") if trial.num_epochs == 1}
    assert {number for number, _ in stopped["customdata"]} == ended
    assert not ended & {number for number, _ in continued["customdata"]}
