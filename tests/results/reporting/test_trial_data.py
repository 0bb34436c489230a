from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from results import StudyResult, load, train_file
from results.from_optuna import study_from_optuna
from results.reporting.trial_data import failure_text, trial_data

Make = Callable[..., StudyResult]


def rows_of(study: StudyResult) -> dict[int, dict[str, Any]]:
    return {row["trial"]: row for row in trial_data(study, "runs/x")["rows"]}


def test_every_trial_is_in_the_table_with_its_state_and_metrics(study_folder: Path) -> None:
    study = load(study_folder)
    data = trial_data(study, "runs/x")
    names = [metric["name"] for metric in data["metrics"]]
    assert names[: data["numShown"]] == ["accuracy", "spike_rate", "synops", "energy_mj", "params_m"]
    for trial, row in zip(study.trials, data["rows"], strict=True):
        assert (row["trial"], row["state"], row["epochs"]) == (trial.number, trial.state, trial.num_epochs)
        shown = dict(zip(names, row.get("metrics", []), strict=bool(trial.metrics)))
        assert shown == pytest.approx({n: trial.metrics[n] for n in names if n in trial.metrics}, rel=1e-5)


def test_the_train_file_of_every_trial_reads_back_equal(study_folder: Path) -> None:
    study = load(study_folder)
    data = trial_data(study, "runs/x")
    for trial, row in zip(study.trials, data["rows"], strict=True):
        texts = {**data["common"], **row["config"]}
        assert set(texts) <= set(data["order"])
        text = "".join(f"{key}: {texts[key]}\n" for key in data["order"] if key in texts)
        assert yaml.safe_load(text) == train_file.read_out_config(trial.config, trial.read_step)


def test_reasons_and_labels_are_those_of_the_trial(study_folder: Path) -> None:
    study = load(study_folder)
    rows = rows_of(study)
    assert rows[3]["reason"] == "diverged: loss is nan"
    assert "reason" not in rows[2]
    front = {point.trial for point in study.front()}
    assert {number for number, row in rows.items() if "front" in row.get("labels", [])} == front
    assert sum("knee" in row.get("labels", []) for row in rows.values()) == 1
    stopped = dataclasses.replace(study.trial(2), stop_reason="search.stop")
    assert failure_text(stopped) == "search.stop"


def test_keys_that_are_not_active_in_a_trial_are_named(study_folder: Path) -> None:
    rows = rows_of(load(study_folder))
    assert rows[1]["inactive"] == ["attn_scale"]
    assert "inactive" not in rows[0]


def test_values_that_all_trials_share_are_stored_once(make_search: Any) -> None:
    study = study_from_optuna(make_search(1000, full=0.4))
    data = trial_data(study, "runs/x")
    assert len(data["rows"]) == len(study.trials)
    assert len(json.dumps(data, separators=(",", ":"))) < 600e3
    assert not any(set(row["config"]) & set(data["common"]) for row in data["rows"])


def test_one_and_true_are_different_values(make_study: Make) -> None:
    study = make_study([(90.0, 0.1)], [(80.0, 0.1)])
    changed = [
        dataclasses.replace(t, config={**t.config, "amp": v}) for t, v in zip(study.trials, (True, 1), strict=True)
    ]
    data = trial_data(dataclasses.replace(study, trials=tuple(changed)), "runs/x")
    assert [row["config"]["amp"] for row in data["rows"]] == ["true", "1"]


def test_a_study_without_trials_has_an_empty_table(make_study: Make) -> None:
    assert trial_data(make_study(), "runs/x")["rows"] == []
