from __future__ import annotations

from results import StudyResult
from results.charts.front import front_charts


def test_the_front_chart_has_every_read_out_of_every_full_trial(many_trials: StudyResult) -> None:
    chart = front_charts(many_trials)["energy_mj"]
    drawn = {tuple(point) for trace in chart["data"] for point in trace.get("customdata", ())}
    wanted = {(p.trial, p.read_step) for trial in many_trials.select("complete") for p in trial.points()}
    assert wanted <= drawn
