from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from results import ResultsError, load
from results.from_optuna import study_from_optuna
from search.storage import lock


def test_a_study_has_its_objectives_and_searched_keys(study_folder: Path) -> None:
    study = load(str(study_folder))
    assert study.name == "quickstart"
    assert list(study.objectives.items()) == [("accuracy", "maximize"), ("spike_rate", "minimize")]
    assert study.searched == ("step", "attn_layer", "attn_scale", "alpha", "lr")
    assert (study.epochs, study.attrs["seed"]) == (3, 7)
    assert study.constraints == {"params_m": {"max": 10}, "accuracy": {"min": 50}}


def test_refused_trials_are_counted_but_not_listed(study_folder: Path) -> None:
    study = load(study_folder)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert study.num_infeasible == 1


def test_states_and_failures_are_named(study_folder: Path) -> None:
    study = load(study_folder)
    states = {trial.number: trial.state for trial in study.trials}
    assert (states[0], states[2], states[3], states[6]) == ("complete", "stopped", "failed", "paused")
    assert (study.trial(3).failure_class, study.trial(3).failure_reason) == ("diverged", "loss is nan")
    assert study.trial(0).failure_class is None


def test_a_trial_runs_only_while_a_driver_runs_the_study(study_folder: Path) -> None:
    with lock.hold(study_folder):
        assert load(study_folder).trial(6).state == "running"
    assert load(study_folder).trial(6).state == "paused"
    dead = {"pid": 1, "born": "0", "host": socket.gethostname(), "since": "long ago"}
    (study_folder / "driver.lock").write_text(json.dumps(dead))
    assert [trial.number for trial in load(study_folder).select("running")] == []


def test_a_trial_has_its_epochs_its_last_read_outs_and_its_layers(study_folder: Path) -> None:
    trial = load(study_folder).trial(0)
    assert trial.curve("accuracy") == [(1, 50.0), (2, 75.0), (3, 90.1)]
    assert [point["accuracy"] for point in trial.read_outs] == [70.0, 85.0, 89.0, 90.1]
    assert trial.layers == ({"name": "blocks.0.attn.q", "spike_rate": 0.2},)
    assert trial.run_id == "run0"


def test_searched_values_are_those_of_the_train_file_and_inactive_ones_are_absent(study_folder: Path) -> None:
    study = load(study_folder)
    expected = {"step": 4, "attn_layer": "SSA", "attn_scale": 0.125, "alpha": 4.0, "lr": 0.1 + 0.2}
    assert study.trial(0).params == expected
    assert "attn_scale" not in study.trial(1).params


def test_reading_a_study_changes_no_byte_and_adds_no_file(study_folder: Path) -> None:
    before = (study_folder / "study.db").read_bytes()
    load(study_folder)
    assert (study_folder / "study.db").read_bytes() == before
    assert [path.name for path in study_folder.iterdir()] == ["study.db"]


def test_a_study_is_read_while_its_writer_holds_it(study_folder: Path) -> None:
    writer = sqlite3.connect(study_folder / "study.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert len(load(study_folder).trials) == 8
    writer.close()


def test_a_study_in_wal_mode_is_read_too(study_folder: Path) -> None:
    writer = sqlite3.connect(study_folder / "study.db")
    writer.execute("PRAGMA journal_mode=WAL")
    writer.close()
    assert len(load(study_folder).trials) == 8


def test_a_path_with_url_characters_is_read(study_folder: Path) -> None:
    odd = study_folder.rename(study_folder.with_name("100% of #1? & more"))
    assert load(odd).name == "quickstart"


def test_an_open_study_is_read_without_a_file(study_folder: Path) -> None:
    import optuna

    study = optuna.load_study(study_name="quickstart", storage=f"sqlite:///{study_folder / 'study.db'}")
    with lock.hold(study_folder):
        assert study_from_optuna(study) == load(study_folder)


def test_a_trial_without_a_train_file_is_omitted(study_folder: Path) -> None:
    import optuna

    study = optuna.load_study(study_name="quickstart", storage=f"sqlite:///{study_folder / 'study.db'}")
    study.ask()
    assert len(load(study_folder).trials) == 8


@pytest.mark.parametrize("damage", [b"", b"no database at all", None])
def test_a_damaged_study_is_reported_in_one_sentence(study_folder: Path, damage: bytes | None) -> None:
    path = study_folder / "study.db"
    path.write_bytes(path.read_bytes()[:20000] if damage is None else damage)
    with pytest.raises(ResultsError, match=r"study\.db: no readable study \(.*\); restore it") as caught:
        load(study_folder)
    assert "\n" not in str(caught.value)


def test_a_study_of_another_tool_is_refused(tmp_path: Path) -> None:
    import optuna

    (tmp_path / "other").mkdir()
    optuna.create_study(study_name="other", storage=f"sqlite:///{tmp_path / 'other' / 'study.db'}")
    with pytest.raises(ResultsError, match=r"study other was not written by .* it lacks objectives, searched, epochs"):
        load(tmp_path / "other")


def test_the_study_named_by_the_folder_is_read_from_a_file_of_several(study_folder: Path) -> None:
    import optuna

    optuna.create_study(study_name="second", storage=f"sqlite:///{study_folder / 'study.db'}")
    assert load(study_folder).name == "quickstart"
    with pytest.raises(ResultsError, match=r"it holds 2 studies \(quickstart, second\) and none is named renamed"):
        load(study_folder.rename(study_folder.with_name("renamed")))


def test_reading_a_study_prints_nothing(study_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(study_folder)
    assert capfd.readouterr() == ("", "")


def test_a_study_can_be_read_without_write_permission(
    study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(study_folder, tmp_path / "theirs")
    with sqlite3.connect(tmp_path / "theirs" / "study.db") as database:
        database.execute("PRAGMA journal_mode=WAL")
    database.close()
    before = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    expected, opened = load(study_folder), []
    connect, access = sqlite3.connect, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "theirs" not in str(path) and access(path, mode))
    monkeypatch.setattr(sqlite3, "connect", lambda name, **keys: (opened.append(name), connect(name, **keys))[1])
    assert load(tmp_path / "theirs") == expected
    assert opened
    assert all(name.endswith("?mode=ro&immutable=1") for name in opened)
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == before
