from __future__ import annotations

from pathlib import Path

from results import load
from results.reporting.tables import front_rows, settings, summary


def test_an_early_read_out_is_exported_as_such(study_folder: Path) -> None:
    rows = {(row.key, row.read): row for row in front_rows(load(study_folder), "runs/quickstart")}
    early = rows["t0000", "3 of 4"]
    assert early.export.endswith("--pick trial:0 --read-step 3 --out configs/quickstart/t0000-r3")
    assert early.train == "python -m trainers.run --config configs/quickstart/t0000-r3/spikformer/cifar10.yml"


def test_summary_and_settings_are_those_of_the_study(study_folder: Path) -> None:
    study = load(study_folder)
    assert summary(study)[0][1] == "trials: 4 complete, 1 stopped, 2 failed, 1 paused"
    rows = settings(study)
    assert (rows["seed of the search"], rows["seed of the trainings"]) == ("7", "42")
    assert rows["versions"] == "torch 2.13.0, optuna 5.0.0"
