"""The table of all trials: `to_dataframe` and `trials.csv`."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

import results
from results import StudyResult, TrialResult

Make = Callable[..., StudyResult]

KEYS = ["step", "attn_layer", "attn_scale", "alpha", "lr"]
METRICS = [
    "accuracy",
    "spike_rate",
    "spikes",
    "synops",
    "energy_mj",
    "loss",
    "macs",
    "steps",
    "params_m",
    "images_per_s",
]
LAST = ["failure_class", "failure_reason", "stop_reason", "duration_s", "source"]


def test_a_row_of_each_trial_has_state_metrics_keys_failure_and_duration(study_folder: Path) -> None:
    study = results.load(study_folder)
    table = study.to_dataframe()
    assert list(table.columns) == ["trial", "state", "epochs", *METRICS, "peak_mem_gib", *KEYS, *LAST]
    assert list(table.trial) == [trial.number for trial in study.trials]
    assert list(table.state) == [trial.state for trial in study.trials]
    complete = table.set_index("trial").loc[0]
    assert (complete.state, complete.epochs, complete.accuracy, complete.step) == ("complete", 3, 90.1, 4)
    failed = table.set_index("trial").loc[3]
    assert (failed.failure_class, failed.failure_reason) == ("diverged", "loss is nan")


def test_a_key_that_is_not_active_in_a_trial_is_blank(study_folder: Path) -> None:
    table = results.load(study_folder).to_dataframe().set_index("trial")
    assert table.loc[1].attn_layer == "SDSA"
    assert math.isnan(table.loc[1].attn_scale)  # in its train file, without effect
    assert table.loc[0].attn_scale == 0.125


def test_all_keys_of_the_train_files_are_columns_on_request(study_folder: Path) -> None:
    table = results.load(study_folder).to_dataframe(all_keys=True)
    assert {"mixup", "model", "num_classes"} <= set(table.columns)
    assert table.columns.is_unique
    assert table.epochs[0] == 3
    assert table["mean"][0] == (0.4914, 0.4822, 0.4465)


def test_the_searched_values_can_be_grouped(make_study: Make) -> None:
    study = make_study([(80.0, 0.1)], [(90.0, 0.2)], searched=["depths"])
    trials = tuple(dataclasses.replace(trial, params={"depths": [1, 2]}) for trial in study.trials)
    table = dataclasses.replace(study, trials=trials).to_dataframe()
    assert table.groupby("depths").accuracy.mean().to_dict() == {(1, 2): 85.0}


def test_the_csv_reads_back_as_the_table(study_folder: Path, tmp_path: Path) -> None:
    study = results.load(study_folder)
    study.write_trials_csv(tmp_path / "trials.csv")
    table = study.to_dataframe()
    read = pandas.read_csv(tmp_path / "trials.csv")
    assert list(read.columns) == list(table.columns)
    for name in ("accuracy", "spike_rate", "lr", "attn_scale"):
        assert read[name].equals(table[name])


def test_texts_with_commas_and_lines_stay_in_their_cell(make_study: Make, tmp_path: Path) -> None:
    study = make_study([(80.0, 0.1)])
    reason = 'a, "b"\nc'
    trial = dataclasses.replace(study.trials[0], state="failed", failure_class="error", failure_reason=reason)
    dataclasses.replace(study, trials=(trial,)).write_trials_csv(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["failure_reason"] == reason


def test_an_empty_study_has_a_table_with_columns_and_no_rows(make_study: Make) -> None:
    table = make_study().to_dataframe()
    assert len(table) == 0
    assert "accuracy" in table.columns


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"times": (130.0, 160.0), "ended": 500.0}, 60.0),
        ({"state": "failed", "times": (130.0,), "ended": 150.0}, 50.0),
        ({"state": "failed", "ended": 101.5}, 1.5),
        ({}, None),
        ({"started": None, "times": (130.0,)}, None),
    ],
)
def test_the_duration_ends_with_the_last_epoch_or_the_failure(
    changes: dict[str, object], expected: float | None
) -> None:
    trial = TrialResult(0, "complete", {}, started=100.0)
    assert dataclasses.replace(trial, **changes).duration_s == expected  # type: ignore[arg-type]
