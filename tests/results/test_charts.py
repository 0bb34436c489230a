from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from results import StudyResult, charts
from results.analysis.importance import importances
from results.charts.style import fitted_axis, round_number, subsample
from results.from_optuna import study_from_optuna


@pytest.fixture(scope="module")
def study(request: pytest.FixtureRequest) -> StudyResult:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("studies", request.path.with_name("conftest.py"))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    import sys

    sys.modules["studies"] = module
    spec.loader.exec_module(module)
    return study_from_optuna(module.random_search(50, full=0.5))


def every_chart(study: StudyResult) -> Iterator[Any]:
    for tabs in (charts.front_charts(study), charts.curve_charts(study), charts.rung_charts(study)):
        yield from tabs.values()
    yield from charts.slice_charts(study, study.epochs).values()
    yield charts.parallel_chart(study, study.epochs)
    yield charts.hypervolume_chart(study)
    yield charts.layer_chart(study)
    yield charts.failure_chart(study)
    yield charts.importance_chart(importances(study))


def test_traces_have_as_many_x_as_y_and_are_plain_json(study: StudyResult) -> None:
    for chart in every_chart(study):
        json.dumps(chart, allow_nan=False)
        for trace in chart["data"]:
            assert len(trace["x"]) == len(trace["y"]) > 0
            assert len(trace.get("customdata", trace["x"])) == len(trace["x"])


def test_the_front_chart_has_every_read_out_of_every_full_trial(study: StudyResult) -> None:
    chart = charts.front_charts(study)["energy_mj"]
    drawn = {tuple(point) for trace in chart["data"] for point in trace.get("customdata", ())}
    wanted = {(p.trial, p.read_step) for trial in study.select("complete") for p in trial.points()}
    assert wanted <= drawn


def test_failures_are_drawn_by_class_on_every_key_they_have(study: StudyResult) -> None:
    failed = study.select("failed")
    (trace,) = [t for t in charts.failure_chart(study)["data"] if t["name"].startswith("diverged")]
    assert len(trace["x"]) == sum(len(trial.params) for trial in failed)


def test_a_key_that_a_trial_lacks_lies_below_the_others(study: StudyResult) -> None:
    chart = charts.parallel_chart(study, study.epochs)
    heights = [y for trace in chart["data"] for y in trace["y"] if y is not None]
    assert min(heights) < 0
    assert max(heights) <= 1


@pytest.mark.parametrize(("value", "text"), [(1 / 3, 0.333333), (2.0, 2), (float("nan"), None), (None, None)])
def test_numbers_are_short(value: float | None, text: float | None) -> None:
    assert round_number(value) == text


def test_far_references_do_not_squeeze_the_view() -> None:
    near, far = fitted_axis("accuracy", [80.0, 90.0], [95.0]), fitted_axis("accuracy", [80.0, 90.0], [195.0])
    assert near["range"][1] > 95
    assert far["range"][1] < 95
    assert fitted_axis("synops", [1.0, 1000.0])["type"] == "log"


def test_thinning_keeps_what_must_stay() -> None:
    items = [[number] for number in range(100)]
    kept = subsample(items, 10, [items[3]])
    assert len(kept) == 11
    assert items[3] in kept
