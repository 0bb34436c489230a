from __future__ import annotations

import json
from typing import Any

import pytest

from results import StudyResult, hypervolume
from results.analysis.comparison import common_reference
from results.charts.comparison import attainment_charts, front_comparison, hypervolume_comparison
from results.from_optuna import study_from_optuna


@pytest.fixture(scope="module")
def studies(make_search: Any) -> dict[str, StudyResult]:
    return {f"s{seed}": study_from_optuna(make_search(25, full=0.5, seed=seed)) for seed in range(3)}


def test_the_fronts_of_all_studies_are_in_one_plot(studies: dict[str, StudyResult]) -> None:
    chart = front_comparison(studies)["spike_rate"]
    assert [trace["name"] for trace in chart["data"]] == [f"{n} ({len(s.front())})" for n, s in studies.items()]
    for trace, study in zip(chart["data"], studies.values(), strict=True):
        wanted = {(point.trial, point.read_step) for point in study.front()}
        assert {tuple(point) for point in trace["customdata"]} == wanted
    styles = {(trace["marker"]["color"], trace["marker"]["symbol"]) for trace in chart["data"]}
    assert len(styles) == len(studies)


def test_hypervolumes_end_at_those_to_the_common_reference_point(studies: dict[str, StudyResult]) -> None:
    reference = {**common_reference(studies), "spike_rate": 0.9}
    charts = hypervolume_comparison(studies, reference)
    ends = [trace["y"][-1] for trace in charts["by epochs"]["data"]]
    assert ends == pytest.approx([hypervolume(study, reference) for study in studies.values()], rel=1e-5)
    assert charts["by epochs"]["layout"]["yaxis"]["title"]["text"] == "Hypervolume (% \u00d7 spikes/neuron/step)"
    assert charts["by hours"]["data"] == [], "studies without times"


def test_repeats_have_surfaces_of_half_of_one_and_of_every_run(studies: dict[str, StudyResult]) -> None:
    first = studies["s0"]
    chart = attainment_charts([studies], first)[""]
    json.dumps(chart, allow_nan=False)
    names = [trace["name"].rpartition("attained by ")[2] for trace in chart["data"]]
    assert names == ["half of the runs", "the best run", "every run"]
    half, best, every = (dict(zip(t["x"], t["y"], strict=True)) for t in chart["data"])
    assert min(best) <= min(half) <= min(every), "the fewer runs, the lower the spike rate"
    assert max(best.values()) >= max(half.values()) >= max(every.values())
    pair = attainment_charts([{"s0": first, "s1": studies["s1"]}], first)[""]
    assert len(pair["data"]) == 2


def test_one_objective_has_no_attainment_surface(make_search: Any) -> None:
    study = study_from_optuna(make_search(5, objectives={"accuracy": "maximize"}))
    assert attainment_charts([{"a": study, "b": study}], study) == {}
