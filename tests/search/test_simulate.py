"""The command that simulates searches on recorded curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config.errors import ConfigError
from results import load
from search import simulate
from search.simulation import recorded_curves
from search.simulation.evaluation import Evaluator
from search.simulation.study_curves import StudyCurves
from search.space import reader
from search.space.space import Space
from search.storage.database import open_storage
from search.storage.study import Study
from tests.support.foreign_folder import write_table
from tests.support.synthetic_curves import make_table
from trainers.epoch_metrics import EpochMetrics

Epoch = Callable[..., EpochMetrics]
SHORT = ["--repeats", "2", "--budget", "8", "--workers", "3"]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_curves, "load", lambda folder: make_table(levels=3, epochs=9))


@pytest.fixture(scope="module")
def study(read_space: Callable[..., Space], epoch: Epoch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study in which the third trial failed and most of the others were stopped."""
    folder = tmp_path_factory.mktemp("study")
    space = read_space("budget.trials=18", "sampler.name=random", "scheduler.mode=stop")
    opened = Study(space, folder, open_storage(folder))
    (folder / "space.yml").write_text(opened.space.yaml())
    while (task := opened.next_task()) is not None:
        if task.number == 2:
            opened.on_error(2, "silent", "as made up")
            continue
        for number in range(1, 10):
            accuracy = 90.0 - 10.0 * (task.config["tau"] - 1.8) ** 2 + number / 9
            rate = 0.05 * task.config["tau"] / task.config["step"]
            if opened.on_result(task.number, epoch(number, accuracy, rate, task.config["step"])) != "continue":
                break
    opened.close()
    return folder


def run(*arguments: str) -> int:
    return simulate.main([*arguments])


@pytest.mark.usefixtures("table")
def test_policies_are_compared_on_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert run("anywhere", *SHORT, "--policy", "random+none", "random+stop", "--json", str(path)) == 0
    printed = capsys.readouterr().out
    assert "random+none: " in printed
    assert "135 configs x 2 seeds of 9 epochs, accuracy against spike_rate" in printed
    figures = json.loads(path.read_text())
    full, stopping = figures["random+none"], figures["random+stop"]
    assert full["false_stops"][0] == 0
    assert stopping["trials"] > 1.5 * full["trials"]
    assert 7.5 < full["trainings"] <= 8
    assert list(full["hypervolume"]) == ["3", "6"]


@pytest.mark.usefixtures("table")
def test_the_default_policy_is_that_of_the_space_file_with_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for arguments in (["--policy", "random+stop"], ["--set", "sampler.name=random", "--set", "scheduler.mode=stop"]):
        assert run("anywhere", *SHORT, *arguments, "--json", str(tmp_path / "f.json")) == 0
        figures = next(iter(json.loads((tmp_path / "f.json").read_text()).values()))
        outputs.append({key: value for key, value in figures.items() if key != "ms_a_decision"})
    assert outputs[0] == outputs[1]


@pytest.mark.usefixtures("table")
def test_another_length_of_training_than_the_curves_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("anywhere", *SHORT, "--set", "budget.epochs=3") == 2
    assert "--set budget.epochs=3: the curves have 9 epochs each" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "tpee", "x"], "tpee: unknown. It is space, or one of tpe"),
        (["--policy", "tpe+halt", "x"], "+none, +stop, +promote"),
        ([], "give either"),
        (["x", "--study", "runs/y"], "give either"),
        (["nowhere"], "nowhere"),
        (["--study", "nowhere"], "no such study folder"),
        (["anywhere", "--import", "no.such"], "--import no.such: cannot be imported"),
        (["nowhere", "--json", "/"], "--json /: is a folder; name a file"),
    ],
)
def test_user_errors_are_reported_in_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_study_is_simulated_with_a_statement_of_its_reliability(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--study", str(study), *SHORT, "--policy", "random+stop", "--json", str(study / "f.json")) == 0
    printed = capsys.readouterr().out
    assert "a study is not a grid" in printed
    trust = json.loads((study / "f.json").read_text())["random+stop"]["trust"]
    assert trust["complete"] < trust["configs"] == 18
    assert 0.0 < trust["recorded_share"] <= 1.0
    assert trust["mean_distance"] > 0.0


def test_the_nearest_trial_of_a_study_answers_and_failed_ones_fail(study: Path) -> None:
    space, result = reader.load(str(study / "space.yml")), load(study)
    table = StudyCurves(result, space)
    for number, values in enumerate(table.configs):
        assert table.index(values) == number
    assert table.index({"tau": 1.1, "step": 2}) == min(
        (n for n, values in enumerate(table.configs) if values["step"] == 2), key=lambda n: table.configs[n]["tau"]
    )
    for position, trial in enumerate(table.trials):
        if trial.number == 2:
            assert table.curve(position, 0).failure == ("silent", 0.5)
            continue
        found = [epoch.metrics for epoch in table.curve(position, 0).epochs]
        assert len(found) == 9
        assert all(metrics == found[trial.num_epochs - 1] for metrics in found[trial.num_epochs :])


def test_stopped_trials_never_count(study: Path) -> None:
    space, result = reader.load(str(study / "space.yml")), load(study)
    evaluator = Evaluator(StudyCurves(result, space, is_extended=False))
    complete = [number for number, trial in enumerate(StudyCurves(result, space).trials) if trial.state == "complete"]
    assert [number for number, points in enumerate(evaluator.points) if len(points)] == complete


def test_accuracy_counts_from_the_chance_level_that_the_trials_of_a_study_reported(study: Path) -> None:
    table = StudyCurves(load(study), reader.load(str(study / "space.yml")))
    assert table.chance == -Evaluator(table).reference[0] == 13.0
    assert {epoch.chance for number in range(len(table.trials)) for epoch in table.curve(number, 0).epochs} == {13.0}


def test_a_study_without_a_full_training_is_refused(study: Path) -> None:
    result = load(study)
    stopped = replace(result, trials=tuple(trial for trial in result.trials if trial.num_epochs < 9))
    with pytest.raises(ConfigError, match="no trial was trained in full"):
        StudyCurves(stopped, reader.load(str(study / "space.yml")))


def test_a_table_from_elsewhere_is_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    arguments = [*SHORT, "--policy", "space", "random+none", "--set", "scheduler.mode=stop", "--json", str(path)]
    assert run(str(write_table(tmp_path / "table")), *arguments) == 0
    printed = capsys.readouterr().out
    assert "made_up__small_: 36 configs x 1 seeds of 4 epochs, accuracy against cost; 36 succeed" in printed
    assert json.loads(path.read_text()).keys() == {"space", "random+none"}


def test_a_damaged_table_from_elsewhere_is_a_user_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(write_table(tmp_path, {"cost": None})), *SHORT) == 2
    assert "curves.npz: cost: missing; table.json needs this array" in capsys.readouterr().err
