"""Exit points of a study: candidates for the front, in tables, picks and exports."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from results import StudyResult, TrialResult
from results.analysis.front import hypervolume, write_front_csv
from results.export import Layout, export
from results.metrics import ResultsError
from results.picks import pick
from results.reporting.tables import front_rows
from results.study import build_study, parse_exits

ATTRS = {"objectives": {"accuracy": "maximize", "synops": "minimize"}, "searched": ["tau"], "epochs": 2}
CONFIG = {"model": "spikformer_cifar", "dataset": "digits", "step": 4, "tau": 2.0, "exit_rule": "confidence", "seed": 1}


def row(step: int, accuracy: float, synops: float, **more: Any) -> dict[str, Any]:
    return {"read_step": step, "accuracy": accuracy, "synops": synops, "steps": float(step), **more}


def exit_row(number: int, threshold: Any, accuracy: float, synops: float, steps: float) -> dict[str, Any]:
    found = row(4, accuracy, synops, exit=number, exit_rule="confidence", exit_threshold=threshold)
    details = {"images": 72, "calibration_images": 71, "calibrated_accuracy": 91.0, "calibrated_steps": 2.0}
    return {**found, "steps": steps, **details}


def trial(number: int = 0, shift: float = 0.0, seed_of: int | None = None) -> TrialResult:
    read_outs = (row(1, 60.0, 100.0), row(2, 80.0, 200.0), row(3, 85.0, 300.0), row(4, 90.0, 400.0))
    exits = (exit_row(1, 0.95, 90.0 + shift, 260.0, 2.5), exit_row(3, [0.9, 0.8, 0.7], 84.0 + shift, 180.0, 1.8))
    epochs = ({"epoch": 2, "accuracy": 90.0, "synops": 400.0, "steps": 4.0},)
    return TrialResult(
        number, "complete", dict(CONFIG), {"tau": 2.0}, epochs, read_outs, parse_exits(exits), seed_of=seed_of
    )


@pytest.fixture
def study() -> StudyResult:
    return build_study("s", ATTRS, [trial()])


def test_exit_points_are_on_the_front_and_dominate_plain_read_outs(study: StudyResult) -> None:
    assert [point.read_out for point in study.front()] == [(0, 4, 1), (0, 4, 3), (0, 1, 0)]


def test_the_hypervolume_counts_them(study: StudyResult) -> None:
    plain = build_study("s", ATTRS, [replace(trial(), exits=())])
    reference = {"accuracy": 10.0, "synops": 500.0}
    assert hypervolume(study, reference) > hypervolume(plain, reference)


def test_front_csv_has_rule_and_thresholds(study: StudyResult, tmp_path: Path) -> None:
    write_front_csv(study, tmp_path / "front.csv")
    rows = list(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert [line["exit"] for line in rows] == ["confidence 0.95", "confidence 0.9 0.8 0.7", ""]
    assert [line["steps"] for line in rows] == ["2.5", "1.8", "1.0"]


def test_front_csv_of_a_study_without_exits_has_no_such_column(tmp_path: Path) -> None:
    write_front_csv(build_study("s", ATTRS, [replace(trial(), exits=())]), tmp_path / "front.csv")
    assert "exit" not in (tmp_path / "front.csv").read_text().splitlines()[0].split(",")


def test_a_picked_exit_point_is_exported_with_its_rule(study: StudyResult) -> None:
    [found] = export(study, pick(study, "best:accuracy"), Layout(Path("out")))
    text = "".join(found.texts.values())
    assert yaml.safe_load(text)["exit_rule"] == "confidence"
    assert yaml.safe_load(text)["exit_threshold"] == 0.95
    assert "calibrated on 71 images of the validation part" in text
    assert "measured on the other 72" in text


def test_a_plain_read_out_is_exported_without_a_rule(study: StudyResult) -> None:
    [found] = export(study, pick(study, "trial:0"), Layout(Path("out")))
    assert "exit_rule" not in found.config
    [early] = export(study, pick(study, "trial:0", read_step=2), Layout(Path("out")))
    assert early.config["read_step"] == 2
    assert "exit_rule" not in early.config


def test_an_exit_point_is_picked_by_its_number(study: StudyResult) -> None:
    [point] = pick(study, "trial:0", exit_number=3)
    [found] = export(study, [point], Layout(Path("out")))
    assert found.config["exit_threshold"] == [0.9, 0.8, 0.7]
    with pytest.raises(ResultsError, match="no exit point 2; it has: 1, 3"):
        pick(study, "trial:0", exit_number=2)


def test_several_exports_have_names_of_their_own(study: StudyResult) -> None:
    names = [path.name for item in export(study, pick(study, "front"), Layout(Path("out"))) for path in item.texts]
    assert names == ["digits-t0000-e1.yml", "digits-t0000-e3.yml", "digits-t0000-r1.yml"]


def test_the_report_says_when_images_exit_and_how_to_export_the_point(study: StudyResult) -> None:
    first, *_ = front_rows(study, "runs/s")
    assert first.read == "2.50 (confidence 0.95) of 4"
    assert "--pick trial:0 --exit 1 " in first.export


def test_exit_points_of_several_seeds_count_by_their_means() -> None:
    study = build_study("s", ATTRS, [trial(), trial(1, shift=-2.0, seed_of=0)])
    point = study.point(0, exit_number=1)
    assert point.metrics["accuracy"] == 89.0
    assert point.seeds == 2
    assert [metrics["accuracy"] for metrics in study.metrics_by_seed(point)] == [90.0, 88.0]
    assert study.point(0).metrics["accuracy"] == 90.0


def test_a_confirmation_replaces_them_by_means_over_fresh_seeds() -> None:
    rows = [{"trial": 0, "seed": 9, **exit_row(1, 0.93, 70.0, 250.0, 2.4)}]
    study = build_study("s", {**ATTRS, "confirmed": rows}, [trial()])
    assert study.point(0, exit_number=1).metrics["accuracy"] == 70.0
    assert study.point(0).metrics["accuracy"] == 90.0
