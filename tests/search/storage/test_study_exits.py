"""A study whose trainings measure exit points: its decisions, database, event log, mirror and front."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import results
from config.errors import ConfigError
from search import replay
from search.storage import event_log
from search.storage.study import Study
from search.tracking.mlflow_mirror import MlflowMirror
from tests.search.conftest import ReadSpace, score
from trainers.epoch_metrics import EpochMetrics
from trainers.exits.settings import ExitSettings

Epoch = Callable[..., EpochMetrics]
EXITS = ("exits={rule: margin, points: 3}", "budget.trials=4", "space.step={choice: [2, 4]}")


def with_exits(report: EpochMetrics, config: dict[str, Any]) -> EpochMetrics:
    """Returns the report with exit points: one at the accuracy of all steps, and at the last epoch one below."""
    last = report.read_outs[-1]
    rows = [
        {
            **last,
            "read_step": config["step"],
            "exit": number,
            "exit_rule": "margin",
            "exit_threshold": 0.9 - number / 10,
            "accuracy": last["accuracy"] - loss,
            "spike_rate": last["spike_rate"] * share,
            "steps": config["step"] * share,
        }
        for number, loss, share in ((1, 1.0, 0.6), (2, 9.0, 0.3))
    ]
    return replace(report, exits=rows if report.epoch == config["epochs"] else rows[:1])


def run(study: Study, epoch: Epoch, *, exits: bool = True) -> None:
    while (task := study.next_task()) is not None:
        assert task.exits == (ExitSettings(3) if exits else ExitSettings())
        for number in range(1, task.config["epochs"] + 1):
            report = epoch(number, score(task.config), 0.1 + task.number / 100, task.config["step"])
            if study.on_result(task.number, with_exits(report, task.config) if exits else report) == "stop":
                break


@pytest.fixture
def study(open_study: Callable[..., Study], epoch: Epoch) -> Study:
    study = open_study(*EXITS)
    run(study, epoch)
    return study


def test_every_trial_trains_with_the_rule(study: Study) -> None:
    assert {trial.config["exit_rule"] for trial in study.trials.values()} == {"margin"}
    assert {trial.config["exit_threshold"] for trial in study.trials.values()} == {None}


def test_without_exits_no_trial_has_a_rule(open_study: Callable[..., Study], epoch: Epoch) -> None:
    study = open_study()
    run(study, epoch, exits=False)
    assert {trial.config["exit_rule"] for trial in study.trials.values()} == {None}
    assert all("exits" not in line for line in (study.folder / event_log.NAME).read_text().splitlines())


def test_exit_points_of_full_trainings_are_on_the_front(study: Study) -> None:
    complete = study.result().select("complete")
    assert {len(trial.exits) for trial in complete} == {2}
    assert any(point.exit for point in study.result().front())


def test_trials_are_compared_at_the_costs_of_the_point_that_keeps_the_accuracy(study: Study) -> None:
    trial = study.trials[0]
    assert trial.epochs[1]["spike_rate"] == pytest.approx(0.6 * 0.1)
    assert trial.epochs[1]["accuracy"] == pytest.approx(score(trial.config))
    assert study.trial_result(0).metrics["spike_rate"] == pytest.approx(0.1)


def test_a_reopened_study_has_the_same_points_and_events(study: Study, open_study: Callable[..., Study]) -> None:
    before, path = study.result(), study.folder / event_log.NAME
    log = path.read_bytes()
    study.close()
    path.unlink()
    again = open_study(*EXITS)
    assert again.result().trials == before.trials
    events = list(map(json.loads, log.decode().splitlines()))
    written = list(map(json.loads, path.read_text().splitlines()))
    key = lambda event: json.dumps(event, sort_keys=True)
    assert sorted(written, key=key) == sorted(events, key=key)


def test_the_log_is_replayed_byte_for_byte(study: Study) -> None:
    lines = (study.folder / event_log.NAME).read_text().splitlines()
    assert any("exits" in line for line in lines)
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_mlflow_holds_the_same_points(study: Study, empty_store: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    mirror = MlflowMirror.open(uri, study.result(), tmp_path / "artifacts")
    mirror.finish(study.result(), study.folder, "FINISHED")
    loaded = results.load(tracking_uri=uri, experiment="small")
    assert loaded.front() == study.result().front()
    assert [trial.exits for trial in loaded.trials] == [trial.exits for trial in study.result().trials]


def test_a_resumed_study_keeps_its_exits(study: Study, open_study: Callable[..., Study]) -> None:
    study.close()
    with pytest.raises(ConfigError, match="exits"):
        open_study("budget.trials=4", "space.step={choice: [2, 4]}")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("exits={rule: confidance}",), "exits.rule"),
        (("exits={points: 0}",), "exits.points"),
        (("exits={number: 3}",), "exits.number"),
        (("fixed={exit_threshold: 0.9}",), "set exits"),
        (("space.exit_rule={choice: [confidence, margin]}",), "set exits"),
    ],
)
def test_wrong_exits_are_refused(read_space: ReadSpace, overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_space(*overrides)


def test_exit_keys_of_the_base_are_left_out(read_space: ReadSpace, tmp_path: Path) -> None:
    base = tmp_path / "base.yml"
    recipe = Path("trainers/recipes/spikformer/digits.yml").read_text()
    base.write_text(f"{recipe}\nexit_rule: confidence\nexit_threshold: 0.9\n")
    plain, chosen = read_space(f"base={base}"), read_space(f"base={base}", "exits={rule: entropy}")
    assert "exit_rule" not in plain.base
    assert (chosen.base["exit_rule"], "exit_threshold" in chosen.base) == ("entropy", False)
