from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from results import StudyResult, charts
from results.analysis.importance import importances


def every_chart(many_trials: StudyResult) -> Iterator[Any]:
    for tabs in (charts.front_charts(many_trials), charts.curve_charts(many_trials), charts.rung_charts(many_trials)):
        yield from tabs.values()
    yield from charts.slice_charts(many_trials, many_trials.epochs).values()
    yield charts.parallel_chart(many_trials, many_trials.epochs)
    yield from charts.hypervolume_charts(many_trials).values()
    yield charts.layer_chart(many_trials)
    yield charts.failure_chart(many_trials)
    yield charts.importance_chart(importances(many_trials))


def test_traces_have_as_many_x_as_y_and_are_plain_json(many_trials: StudyResult) -> None:
    for chart in every_chart(many_trials):
        json.dumps(chart, allow_nan=False)
        for trace in chart["data"]:
            assert len(trace["x"]) == len(trace["y"]) > 0
            assert len(trace.get("customdata", trace["x"])) == len(trace["x"])
