from __future__ import annotations

import csv
import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from results import StudyResult, hypervolume, load, reference_point, write_front_csv
from results.analysis.front import excluded_points, front_line, highlighted_points
from results.picks import pick
from results.reporting import tables
from results.reporting.page import study_page

Make = Callable[..., StudyResult]
HEADER = (
    "trial,read_step,accuracy,spike_rate,spikes,synops,energy_mj,loss,macs,steps,params_m,images_per_s,peak_mem_gib,"
    "step,attn_layer,attn_scale,alpha,lr"
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_columns_are_the_point_the_metrics_and_the_searched_keys(study_folder: Path, tmp_path: Path) -> None:
    write_front_csv(load(study_folder), tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text().splitlines()[0] == HEADER


def test_rows_are_the_front_best_accuracy_first_and_inactive_keys_are_blank(study_folder: Path) -> None:
    write_front_csv(load(study_folder), study_folder / "front.csv")
    rows = read(study_folder / "front.csv")
    picked = [(row["trial"], row["read_step"], row["accuracy"]) for row in rows]
    assert picked == [("0", "4", "90.1"), ("0", "3", "89.0"), ("1", "2", "88.5"), ("1", "1", "80.0")]
    assert {row["attn_scale"] for row in rows if row["attn_layer"] == "SDSA"} == {""}


def test_floats_read_back_bit_by_bit(study_folder: Path) -> None:
    study = load(study_folder)
    write_front_csv(study, study_folder / "front.csv")
    for row, point in zip(read(study_folder / "front.csv"), study.front(), strict=True):
        assert {name: float(row[name]) for name in point.metrics} == point.metrics
        assert float(row["lr"]) == point.params["lr"]


def test_writing_replaces_the_file_and_leaves_no_temporary_file(make_study: Make, tmp_path: Path) -> None:
    for accuracy in (80.0, 90.0):
        write_front_csv(make_study([(accuracy, 0.1)]), tmp_path / "new" / "front.csv")
    assert [row["accuracy"] for row in read(tmp_path / "new" / "front.csv")] == ["90.0"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["front.csv"]


def test_an_empty_front_is_a_header(make_study: Make, tmp_path: Path) -> None:
    write_front_csv(make_study(), tmp_path / "front.csv")
    assert read(tmp_path / "front.csv") == []


def test_fixed_references_are_chance_and_full_activity(make_study: Make) -> None:
    objectives = {"accuracy": "maximize", "spike_rate": "minimize", "loss": "minimize", "images_per_s": "maximize"}
    study = make_study([(80.0, 0.1)], objectives=objectives)
    expected = {"accuracy": 10.0, "spike_rate": 1.0, "loss": math.log(10), "images_per_s": 0.0}
    assert reference_point(study) == expected


def test_accuracy_counts_from_the_chance_level_that_trials_reported(make_study: Make) -> None:
    study = make_study([(80.0, 0.1)], [(90.0, 0.2)])
    trials = tuple(
        dataclasses.replace(trial, read_outs=tuple({**row, "chance": 63.0} for row in trial.read_outs))
        for trial in study.trials
    )
    assert reference_point(dataclasses.replace(study, trials=trials))["accuracy"] == 63.0


def test_the_reference_of_other_costs_is_their_limit_or_the_worst_value(make_study: Make) -> None:
    objectives = {"accuracy": "maximize", "synops": "minimize"}
    trials = [[(80.0, 0.1)], [(90.0, 0.2)]]
    assert reference_point(make_study(*trials, objectives=objectives))["synops"] == pytest.approx(0.2e6)
    limited = make_study(*trials, objectives=objectives, constraints={"synops": {"max": 1e6}})
    assert reference_point(limited)["synops"] == 1e6


def test_the_hypervolume_is_the_area_above_the_reference(make_study: Make) -> None:
    assert hypervolume(make_study([(60.0, 0.5)])) == pytest.approx(50 * 0.5)
    assert hypervolume(make_study([(60.0, 0.5), (80.0, 0.75)])) == pytest.approx(50 * 0.5 + 20 * 0.25)
    assert hypervolume(make_study()) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_another_trial_never_shrinks_the_hypervolume(make_study: Make, seed: int) -> None:
    rng = random.Random(seed)
    study = make_study(*([(rng.uniform(0, 100), rng.random())] for _ in range(8)))
    fewer = dataclasses.replace(study, trials=study.trials[:-1])
    assert hypervolume(study) >= hypervolume(fewer) - 1e-9


def test_knee_best_and_cheapest_are_named(make_study: Make) -> None:
    study = make_study([(90.0, 0.9)], [(88.0, 0.2)], [(50.0, 0.1)])
    assert {label: point.trial for label, point in highlighted_points(study).items()} == {
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


def test_requested_metrics_are_columns_of_the_studies_that_have_them(make_study: Make, tmp_path: Path) -> None:
    study = make_study([(85.0, 0.20), (88.0, 0.50)], [(90.0, 0.95)])
    rows = tuple({**row, "accuracy_int8": row["accuracy"] - 1.5} for row in study.trials[0].read_outs)
    study = dataclasses.replace(study, trials=(dataclasses.replace(study.trials[0], read_outs=rows), study.trials[1]))
    write_front_csv(study, tmp_path / "front.csv")
    assert [(row["accuracy"], row["accuracy_int8"]) for row in read(tmp_path / "front.csv")] == [
        ("90.0", ""), ("88.0", "86.5"), ("85.0", "83.5"),
    ]  # fmt: skip
    assert tables.front_metrics(study)[-1] == "accuracy_int8"
    assert [row.metrics[-1] for row in tables.front_rows(study, "runs/x")] == ["", "86.50", "83.50"]
    assert pick(study, "best:accuracy_int8")[0].read_out == (0, 2, 0)
    assert {point.read_out for point in pick(study, "front", {"accuracy_int8": 80.0})} == {(0, 2, 0), (0, 1, 0)}
    assert "Validation accuracy in 8-bit integers (%)" in str(study_page(study, "runs/x"))
