"""Configs that a search trained with several seeds: means by read-out, and what follows from them."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import StudyResult, export
from results.analysis.front import write_front_csv
from results.analysis.seed_statistics import study_front_shares
from results.charts.front import front_charts
from results.reporting import tables
from results.reporting.latex import front_table
from results.reporting.page import study_page
from results.study.repeats import Repeats

Make = Callable[..., StudyResult]
SEED_OF = {3: 0, 4: 0, 5: 1, 6: 1}
TRIALS = (
    [(80.0, 0.1), (95.0, 0.3)],
    [(70.0, 0.05), (93.0, 0.2)],
    [(60.0, 0.02), (92.0, 0.25)],
    [(82.0, 0.12), (91.0, 0.33)],
    [(84.0, 0.14), (90.0, 0.36)],
    [(70.0, 0.05), (93.5, 0.2)],
    [(70.0, 0.05), (94.5, 0.2)],
)


def with_seeds(study: StudyResult, seed_of: dict[int, int] = SEED_OF, **changes: dict[str, Any]) -> StudyResult:
    """Returns the study in which some trials repeat others; `changes` are fields of the trial `tN`."""
    trials = (
        dataclasses.replace(trial, seed_of=seed_of.get(trial.number), **changes.get(f"t{trial.number}", {}))
        for trial in study.trials
    )
    return dataclasses.replace(study, trials=tuple(trials))


@pytest.fixture
def repeated(make_study: Make) -> StudyResult:
    """Three configs, of which the first two have three seeds; the first was lucky."""
    return with_seeds(make_study(*TRIALS))


def test_a_config_counts_once_and_by_its_means_at_each_read_out(repeated: StudyResult) -> None:
    found = {
        (p.trial, p.read_step): (p.metrics["accuracy"], p.metrics["spike_rate"], p.seeds) for p in repeated.points()
    }
    assert found[0, 1] == (pytest.approx(82.0), pytest.approx(0.12), 3)
    assert found[0, 2] == (pytest.approx(92.0), pytest.approx(0.33), 3)
    assert found[2, 2] == (92.0, 0.25, 0)
    assert {trial for trial, _ in found} == {0, 1, 2}
    assert repeated.point(0).spreads["accuracy"].deviation == pytest.approx(7**0.5)
    assert repeated.point(3).metrics["accuracy"] == 91.0  # a single training, by its own number


def test_the_front_and_the_knee_are_those_of_the_means(repeated: StudyResult, make_study: Make) -> None:
    assert make_study(*TRIALS[:3]).front()[0].trial == 0  # by one seed each
    front = repeated.front()
    assert [(p.trial, p.read_step) for p in front] == [(1, 2), (0, 1), (1, 1), (2, 1)]
    assert front[0].metrics["accuracy"] == pytest.approx((93.0 + 93.5 + 94.5) / 3)
    assert repeated.knee() in front


def test_a_config_of_which_a_seed_failed_is_off_the_front_unless_the_machine_was_the_cause(make_study: Make) -> None:
    failed = {"state": "failed", "failure_class": "diverged"}
    study = with_seeds(make_study(*TRIALS), t5=failed)
    assert {point.trial for point in study.points()} == {0, 2}
    assert study.repeats.failed == {1: 1}
    study = with_seeds(make_study(*TRIALS), t5=failed | {"failure_class": "killed"})
    assert {(point.trial, point.seeds) for point in study.points()} == {(0, 3), (1, 2), (2, 0)}


def test_constraints_hold_for_the_means(make_study: Make) -> None:
    study = with_seeds(make_study(*TRIALS, constraints={"accuracy": {"min": 92.5}}))
    assert {(point.trial, point.read_step) for point in study.points()} == {(1, 2)}


def test_a_repeat_that_runs_does_not_count_yet(make_study: Make) -> None:
    study = with_seeds(make_study(*TRIALS), t5={"state": "running"}, t6={"state": "running"})
    assert study.point(1).seeds == 0
    assert study.point(1).metrics["accuracy"] == 93.0


def test_a_confirmation_replaces_the_seeds_of_the_search(repeated: StudyResult) -> None:
    rows = [{"trial": 1, "read_step": 2, "seed": 1042 + n, "accuracy": 90.0 + n, "spike_rate": 0.2} for n in range(2)]
    attrs = {**repeated.attrs, "confirmed": rows, "confirmation": {"trials": list(range(7)), "failed": {}}}
    study = dataclasses.replace(repeated, attrs=attrs)
    assert study.point(1).metrics["accuracy"] == 90.5
    assert study.unconfirmed().front() == repeated.front()
    assert {point.trial for point in study.read_outs(confirmed=False)} == {0, 2}


def test_a_reduced_study_keeps_its_means(repeated: StudyResult) -> None:
    reduced = repeated.reduced_to_front()
    assert reduced.front() == dataclasses.replace(reduced, attrs=dict(reduced.attrs)).front() == repeated.front()
    assert {trial.number for trial in repeated.without([1]).trials} == {0, 2, 3, 4}


def test_the_table_of_configs_has_means_deviations_and_counts(make_study: Make) -> None:
    study = with_seeds(make_study(*TRIALS), t5={"state": "failed", "failure_class": "diverged"})
    table = study.by_config().set_index("trial")
    assert list(table.index) == [0, 1, 2]
    assert (list(table.seeds), list(table.failed)) == ([3, 2, 1], [0, 1, 0])
    assert table.accuracy[0] == pytest.approx(92.0)
    assert table.accuracy_std[0] == pytest.approx(7**0.5)
    assert math.isnan(table.accuracy_std[2])
    assert {"step", "spike_rate_std", "energy_mj"} <= set(table.columns)
    assert len(make_study().by_config()) == 0


def test_front_csv_has_the_number_of_seeds_and_the_deviations(repeated: StudyResult, tmp_path: Path) -> None:
    write_front_csv(repeated, tmp_path / "front.csv")
    with (tmp_path / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seeds"] for row in rows] == ["3", "3", "3", "1"]
    assert float(rows[1]["accuracy_std"]) == pytest.approx(2.0)
    assert rows[3]["accuracy_std"] == ""


def test_the_header_of_an_export_has_the_metrics_of_its_training_and_the_means_apart(repeated: StudyResult) -> None:
    lines = export._header(repeated, repeated.point(0), "train")
    measured, means = (next(line for line in lines if line.startswith(start)) for start in ("read after", "mean over"))
    assert "accuracy 95," in measured
    assert means.startswith("mean over seeds: accuracy 92")


def test_the_report_has_means_deviations_and_error_bars(repeated: StudyResult) -> None:
    rows = tables.config_rows(repeated)
    assert [(row.key, row.seeds, row.metrics[0]) for row in rows] == [
        ("t0001", 3, "93.67 \u00b1 0.76"),
        ("t0000", 3, "92.00 \u00b1 2.6"),
    ]
    html = study_page(repeated, "runs/s").body
    assert "Configs over seeds: 2 configs" in html
    assert "93.67 \u00b1 0.76" in html
    (bars,) = [trace for trace in front_charts(repeated)["spike_rate"]["data"] if "error_y" in trace]
    assert len(bars["x"]) == 4
    assert r"$93.67 \pm 0.76$" in front_table({"s": repeated})


def test_without_repeats_nothing_changes(make_study: Make) -> None:
    study = make_study(*TRIALS)
    assert study.repeats == Repeats()
    assert "Configs over seeds" not in study_page(study, "runs/s").body


def test_the_report_says_how_sure_the_front_is(repeated: StudyResult) -> None:
    shares = study_front_shares(repeated)
    assert shares[1, 2, 0] == 1.0  # better than all others with any of its seeds
    assert shares.keys() >= {point.read_out for point in repeated.front()}
    assert (2, 2, 0) not in shares  # beaten by every seed of the second config
    assert "on the front in 100" in tables.front_rows(repeated, "runs/s")[0].seeds


def test_the_share_of_a_config_near_its_bound_is_below_one(make_study: Make) -> None:
    study = with_seeds(make_study(*TRIALS, constraints={"accuracy": {"min": 93.4}}))
    assert 0.3 < study_front_shares(study)[1, 2, 0] < 0.9
