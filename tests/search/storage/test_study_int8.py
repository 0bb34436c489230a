"""A study whose full trainings measure `accuracy_int8`: its database, front.csv, mirror and seeds."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import results
from search.storage.study import Study
from search.tracking.mlflow_mirror import MlflowMirror
from tests.search.conftest import score
from trainers.epoch_metrics import EpochMetrics

Epoch = Callable[..., EpochMetrics]
INT8 = ("fixed={measure_int8: true}", "budget.trials=4", "space.step={choice: [2, 4]}")


@pytest.fixture
def study(open_study: Callable[..., Study], epoch: Epoch) -> Study:
    """Trained to the end; after t steps the accuracy of the integers is t points lower."""
    study = open_study(*INT8)
    while (task := study.next_task()) is not None:
        assert task.config["measure_int8"]
        for number in range(1, task.config["epochs"] + 1):
            report = epoch(number, score(task.config), 0.1 + task.number / 100, task.config["step"])
            if number == task.config["epochs"]:
                rows = [{**row, "accuracy_int8": row["accuracy"] - row["read_step"]} for row in report.read_outs]
                report = replace(report, read_outs=rows)
            if study.on_result(task.number, report) == "stop":
                break
    return study


def test_every_full_read_out_has_it_and_no_rung_needs_it(study: Study) -> None:
    complete = study.result().select("complete")
    assert complete
    points = [point for trial in complete for point in trial.points()]
    assert [point.metrics["accuracy"] - point.metrics["accuracy_int8"] for point in points] == pytest.approx(
        [point.read_step for point in points]
    )


def test_front_csv_has_a_column_of_it(study: Study, tmp_path: Path) -> None:
    results.write_front_csv(study.result(), tmp_path / "front.csv")
    with (tmp_path / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(float(row["accuracy_int8"]) == float(row["accuracy"]) - int(row["read_step"]) for row in rows)


def test_a_reopened_study_and_mlflow_hold_the_same(
    study: Study, open_study: Callable[..., Study], empty_store: Path, tmp_path: Path
) -> None:
    before = study.result()
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    MlflowMirror.open(uri, before, tmp_path / "artifacts").finish(before, study.folder, "FINISHED")
    assert results.load(tracking_uri=uri, experiment="small").front() == before.front()
    study.close()
    assert open_study(*INT8).result().trials == before.trials


def test_a_confirmation_averages_it_over_its_seeds(study: Study) -> None:
    point = study.result().front()[0]
    row = {"trial": point.trial, "read_step": point.read_step, **point.metrics}
    study.record_confirmation([{**row, "seed": seed, "accuracy_int8": 80.0 + seed} for seed in (1, 2, 3)])
    confirmed = study.result().point(point.trial, point.read_step)
    assert confirmed.metrics["accuracy_int8"] == pytest.approx(82.0)
    assert confirmed.spreads["accuracy_int8"].deviation == pytest.approx(1.0)
