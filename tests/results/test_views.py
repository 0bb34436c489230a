from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from results import StudyResult, load
from results.analysis.edges import failure_regions
from results.analysis.front import highlighted_points, front_line, excluded_points
from results.metrics import format_number, format_param, format_params
from results.tables import summary_items, front_rows, settings

Make = Callable[..., StudyResult]


def test_knee_best_and_cheapest_are_named(make_study: Make) -> None:
    study = make_study([(90.0, 0.9)], [(88.0, 0.2)], [(50.0, 0.1)])
    assert {word: point.trial for word, point in highlighted_points(study).items()} == {
        "knee": 1,
        "best": 0,
        "cheapest": 2,
    }
    assert highlighted_points(make_study()) == {}


def test_the_line_follows_the_two_metrics_that_are_drawn(make_study: Make) -> None:
    study = make_study([(80.0, 0.1), (81.0, 0.1)], [(70.0, 0.2)])
    assert [point.read_step for point in front_line(study, ("synops", "accuracy"))] == [1, 2]
    assert [point.read_step for point in front_line(study, ("spike_rate", "accuracy"))] == [2]


def test_points_outside_the_constraints_are_ruled_out(study_folder: Path) -> None:
    ruled = excluded_points(load(study_folder), ("spike_rate", "accuracy"))
    assert {point.trial for point in ruled} >= {5}
    assert not {(p.trial, p.read_step) for p in ruled} & {(p.trial, p.read_step) for p in load(study_folder).points()}


def test_failures_that_crowd_at_one_end_are_told(make_study: Make) -> None:
    study = make_study(*[[(90.0, 0.1)]] * 8, searched=["x"], space={"space": {"x": {"uniform": [0, 1]}}})
    trials = [dataclasses.replace(t, params={"x": t.number / 8}) for t in study.trials]
    bad = [dataclasses.replace(t, state="failed", failure_class="silent") for t in trials[5:]]
    (place,) = failure_regions(dataclasses.replace(study, trials=(*trials[:5], *bad)), "silent")
    assert str(place) == "high x (median 0.75; of the other trials 0.25)"
    assert failure_regions(dataclasses.replace(study, trials=(*trials[:6], *bad[1:])), "silent") == []


@pytest.mark.parametrize(
    ("value", "text"), [(1680840.6, "1.68 M"), (0.17863545, "0.1786"), (96.0, "96"), (-2e9, "-2 G"), (12345, "12.3 k")]
)
def test_numbers_are_read_easily(value: float, text: str) -> None:
    assert format_number(value) == text


def test_values_are_one_line() -> None:
    assert (
        format_params({"tau": 1.74358, "depths": [2, 6], "attn_layer": "SSA"}) == "tau=1.744 depths=2-6 attn_layer=SSA"
    )
    assert format_param(None) == "None"


def test_an_early_read_out_is_exported_as_such(study_folder: Path) -> None:
    rows = {(row.key, row.read): row for row in front_rows(load(study_folder), "runs/quickstart")}
    early = rows["t0000", "3 of 4"]
    assert early.export.endswith("--pick trial:0 --read-step 3 --out configs/t0000-r3")
    assert early.train == "python -m trainers.run --config configs/t0000-r3/spikformer/cifar10.yml"


def test_the_facts_and_settings_are_those_of_the_study(study_folder: Path) -> None:
    study = load(study_folder)
    assert summary_items(study)[0].text == "trials: 4 complete, 1 stopped, 2 failed, 1 running"
    rows = settings(study)
    assert (rows["seed of the search"], rows["seed of the trainings"]) == ("7", "42")
    assert rows["versions"] == "torch 2.13.0, optuna 5.0.0"
