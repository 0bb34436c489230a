"""Metrics over fresh seeds, and the front, the knee and the exports that follow from them."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import StudyResult
from results.analysis.front import unconfirmed_points, write_front_csv
from results.charts.front import front_charts
from results.export import Layout, export
from results.picks import pick
from results.reporting import tables
from results.study.seeds import Confirmation

Make = Callable[..., StudyResult]
TRIALS = ([(95.0, 0.3)], [(93.0, 0.2)], [(80.0, 0.1)], [(92.0, 0.25)])


def rows(trial: int, accuracies: list[float], rate: float) -> list[dict[str, float]]:
    return [
        {"trial": trial, "read_step": 1, "seed": seed, "accuracy": accuracy, "spike_rate": rate + seed / 1000}
        for seed, accuracy in enumerate(accuracies)
    ]


CONFIRMED = [*rows(0, [94.0, 95.0], 0.3), *rows(1, [60.0, 62.0], 0.2), *rows(2, [80.0, 81.0], 0.1)]
ATTRS: dict[str, Any] = {
    "confirmed": CONFIRMED,
    "confirmation": {"trials": [0, 1, 2, 3], "failed": {}},
    "tested": {"time": "now", "rows": rows(0, [90.0, 92.0], 0.3)},
}


@pytest.fixture
def confirmed(make_study: Make) -> StudyResult:
    """Three trials on the search's front, of which the second was lucky, and one off the front."""
    return make_study(*TRIALS, **ATTRS)


def test_seeds_give_a_mean_and_from_two_on_a_deviation() -> None:
    found = Confirmation.from_attrs({"confirmed": [*rows(3, [90.0, 92.0], 0.1), *rows(4, [50.0], 0.1)]}).validation
    several, single = found[3, 1, 0]["accuracy"], found[4, 1, 0]["accuracy"]
    assert (several.mean, several.seeds) == (91.0, 2)
    assert several.deviation == pytest.approx(2**0.5)
    assert (str(several), str(single)) == ("91 \u00b1 1.4 (2 seeds)", "50")


def test_the_front_and_the_knee_are_those_of_the_means(confirmed: StudyResult) -> None:
    assert [point.trial for point in confirmed.unconfirmed().front()] == [0, 1, 2]
    front = confirmed.front()
    assert [(point.trial, point.metrics["accuracy"], point.seeds) for point in front] == [(0, 94.5, 2), (2, 80.5, 2)]
    knee = confirmed.knee()
    assert knee is not None
    assert knee.trial != 1


def test_a_trial_without_fresh_seeds_does_not_win_by_its_luck(confirmed: StudyResult) -> None:
    assert confirmed.trial(3).point().metrics["accuracy"] == 92.0
    assert 3 not in {point.trial for point in confirmed.points()}
    assert [p.trial for p in unconfirmed_points(confirmed, ("spike_rate", "accuracy"))] == [3]


def test_a_trial_that_was_completed_later_counts_by_its_own_training(make_study: Make) -> None:
    study = make_study(*TRIALS, [(99.0, 0.05)], **ATTRS)
    assert [(point.trial, point.seeds) for point in study.front()] == [(4, 0)]


def test_while_a_confirmation_runs_trials_without_seeds_keep_their_own_metrics(make_study: Make) -> None:
    study = make_study(*TRIALS, confirmed=rows(1, [60.0], 0.2))
    assert [(point.trial, point.seeds) for point in study.front()] == [(0, 0), (3, 0), (2, 0)]


def test_a_trial_that_failed_with_a_fresh_seed_is_off_the_front(make_study: Make) -> None:
    ended = {"trials": [0, 1, 2, 3], "failed": {"0": "diverged: loss is nan"}}
    study = make_study(*TRIALS, **{**ATTRS, "confirmation": ended})
    assert [point.trial for point in study.front()] == [2]


def test_a_mean_that_violates_a_constraint_is_off_the_front(make_study: Make) -> None:
    study = make_study(*TRIALS, **ATTRS, constraints={"accuracy": {"min": 81}})
    assert [point.trial for point in study.front()] == [0]
    assert [point.trial for point in make_study(*TRIALS, constraints={"accuracy": {"min": 81}}).front()] == [0, 1]


def test_the_exported_file_names_the_means_and_the_test_accuracy(confirmed: StudyResult, tmp_path: Path) -> None:
    for picked in ("best:accuracy", "trial:0"):
        (found,) = export(confirmed, pick(confirmed, picked), Layout(tmp_path))
        (text,) = found.texts.values()
        assert "accuracy 94.5 \u00b1 0.71 (2 seeds)" in text
        assert "test accuracy 91 \u00b1 1.4 (2 seeds)" in text


def test_front_csv_holds_means_deviations_and_test_accuracies(confirmed: StudyResult, tmp_path: Path) -> None:
    write_front_csv(confirmed, tmp_path / "front.csv")
    with (tmp_path / "front.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["accuracy"], first["seeds"], first["test_accuracy"]) == ("94.5", "2", "91.0")
    assert float(first["accuracy_std"]) == pytest.approx(0.5**0.5)
    assert (second["seeds"], second["test_accuracy"]) == ("2", "")
    assert tuple(first)[-len(confirmed.searched) :] == confirmed.searched


def test_the_report_shows_them_for_the_knee_and_in_the_table(confirmed: StudyResult) -> None:
    texts = [text for _, text in tables.summary(confirmed)]
    assert any("best: accuracy 94.5" in text and "test accuracy 91" in text for text in texts)
    assert "test accuracy 91 \u00b1 1.4 (2 seeds)" in tables.front_rows(confirmed, "runs/s")[0].seeds


@pytest.mark.parametrize("name", ["spike_rate", "synops"])
def test_error_bars_are_at_their_points_and_inside_the_plot(make_study: Make, name: str) -> None:
    wide = [*rows(0, [70.0, 99.0], 0.3), *rows(2, [40.0, 90.0], 0.1)]
    wide += [{**row, "trial": 7} for row in wide]  # of a trial that the study lacks
    study = make_study(*TRIALS, **{**ATTRS, "confirmed": [{**row, "synops": 1e5 * row["seed"]} for row in wide]})
    chart = front_charts(study)[name]
    (bars,) = [trace for trace in chart["data"] if "error_y" in trace]
    points = {point[0]: xy for trace in chart["data"] if trace["name"].startswith("all") for point, *xy in zip(
        trace["customdata"], trace["x"], trace["y"], strict=True)}  # fmt: skip
    assert {point[0]: [x, y] for point, x, y in zip(bars["customdata"], bars["x"], bars["y"], strict=True)} == points
    for axis, error in (("x", "error_x"), ("y", "error_y")):
        low, high = chart["layout"][f"{axis}axis"]["range"]
        for value, below, above in zip(bars[axis], bars[error]["arrayminus"], bars[error]["array"], strict=True):
            assert low <= value - below <= value + above <= high


def test_without_a_confirmation_nothing_changes(make_study: Make) -> None:
    study = make_study(*TRIALS)
    assert study.unconfirmed() is study
    assert all(not point.seeds and not point.describe_seeds(["accuracy"]) for point in study.points())
    assert dataclasses.replace(study, attrs={**study.attrs, "confirmed": []}).front() == study.front()
