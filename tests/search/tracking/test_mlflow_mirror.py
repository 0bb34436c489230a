"""The MLflow mirror, with a real store: the written data, and equality of the loaded study with the original."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import results
from config.errors import ConfigError
from search.space.space import Space
from search.storage.database import open_storage
from search.storage.study import Study
from search.tracking import mlflow_mirror, mlflow_views
from search.tracking.mlflow_mirror import COMMON_PARAMS, MlflowMirror
from trainers.epoch_metrics import EpochMetrics


@pytest.fixture(scope="module")
def mirrored(
    tmp_path_factory: pytest.TempPathFactory,
    empty_store: Path,
    read_space: Callable[..., Space],
    epoch: Callable[..., EpochMetrics],
) -> tuple[Path, str]:
    """A study of synthetic results with one trial stopped by the user, and the store that mirrors it."""

    folder = tmp_path_factory.mktemp("mirrored")
    study = Study(read_space("budget.trials=4"), folder, open_storage(folder))
    uri = f"sqlite:///{shutil.copy(empty_store, folder)}"
    mirror = MlflowMirror.open(uri, study.result(), folder / "artifacts")
    for number in range(4):
        task = study.next_task()
        assert task is not None
        for i in range(1, 10):
            accuracy, rate = 80.0 + number, 0.1 + number / 100 + (number == 2) / 10
            if number == 3 and i == 3:
                study.stop(number, "stopped by the user")
            if study.on_result(number, epoch(i, accuracy, rate, task.config["step"])) == "stop":
                break
            mirror.write(study.result())
    mirror.finish(study.result(), folder, "FINISHED")
    assert mirror.runs == {0, 1, 2, 3}
    assert mirror.num_epochs == sum(trial.num_epochs for trial in study.result().trials)
    study.close()
    return folder, uri


def runs(uri: str) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return {run.data.tags.get("trial", "parent"): run for run in client.search_runs([experiment.experiment_id])}


def test_the_folder_and_the_mirror_give_the_same_results(mirrored: tuple[Path, str]) -> None:
    folder, uri = mirrored
    assert results.load(folder) == results.load(tracking_uri=uri, experiment="small")


def test_trials_have_the_parameters_that_vary_and_the_parent_those_that_do_not(mirrored: tuple[Path, str]) -> None:
    found = runs(mirrored[1])
    for number in range(4):
        assert set(found[str(number)].data.params) == {"tau", *COMMON_PARAMS}
    shared = found["parent"].data.params
    assert shared["embed_dim"] == "16"
    assert not {"tau", "step", "read_step"} & shared.keys()


def test_the_front_is_tagged_and_only_the_front(mirrored: tuple[Path, str]) -> None:
    folder, uri = mirrored
    tagged = {key for key, run in runs(uri).items() if run.data.tags.get("front") == "true"}
    assert tagged == {str(point.trial) for point in results.load(folder).front()}
    assert len(tagged) < 4


def test_a_trial_stopped_by_the_user_is_stopped_not_failed(mirrored: tuple[Path, str]) -> None:
    folder, uri = mirrored
    run = runs(uri)["3"]
    assert (run.data.tags["status"], run.info.status) == ("stopped", "FINISHED")
    assert run.data.tags["note"] == results.load(folder).trial(3).stop_reason == "stopped by the user"


def test_the_data_set_is_an_input_of_each_trial(mirrored: tuple[Path, str]) -> None:
    inputs = [run.inputs.dataset_inputs for key, run in runs(mirrored[1]).items() if key != "parent"]
    assert {data.dataset.name for of_run in inputs for data in of_run} == {"digits"}
    assert len({data.dataset.digest for of_run in inputs for data in of_run}) == 1


def test_a_trial_that_leaves_the_front_loses_its_tag(
    open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics], store: Path, tmp_path: Path
) -> None:
    study = open_study("scheduler={name: none}", "budget.trials=2", "space.step={choice: [1]}")
    uri = f"sqlite:///{store}"
    for number, accuracy in enumerate([70.0, 90.0]):
        assert study.next_task() is not None
        for i in range(1, 10):
            study.on_result(number, epoch(i, accuracy, 0.1))
        MlflowMirror.open(uri, study.result(), None).finish(study.result(), tmp_path, "FINISHED")
        assert {k for k, run in runs(uri).items() if "front" in run.data.tags} == {str(number)}


def test_system_metrics_are_on_the_parent_run_if_requested(
    mirrored: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    folder, uri = mirrored
    assert not any(key.startswith("system/") for key in runs(uri)["parent"].data.metrics)
    copied = f"sqlite:///{shutil.copy(uri.removeprefix('sqlite:///'), tmp_path)}"
    study = results.load(folder)
    mirror = MlflowMirror.open(copied, study, None)
    mirror.log_system_metrics()
    deadline = time.monotonic() + 60
    while "system/cpu_utilization_percentage" not in runs(copied)["parent"].data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mirror.close()
    assert "SystemMetricsMonitor" not in {thread.name for thread in threading.enumerate()}
    assert results.load(tracking_uri=copied, experiment="small") == study


def test_the_parent_shows_the_front_and_its_knee(mirrored: tuple[Path, str]) -> None:
    folder, uri = mirrored
    study = results.load(folder)
    lines = runs(uri)["parent"].data.tags["mlflow.note.content"].splitlines()
    rows = [line for line in lines if line.startswith("| t0")]
    assert [row[2:7] for row in rows] == [point.key for point in study.front()]
    assert sum("(knee)" in row for row in rows) == 1


def test_a_saved_view_that_a_user_changed_stays_as_it_is(mirrored: tuple[Path, str], tmp_path: Path) -> None:
    folder, uri = mirrored
    copied = f"sqlite:///{shutil.copy(uri.removeprefix('sqlite:///'), tmp_path)}"
    mirror = MlflowMirror.open(copied, results.load(folder), None)
    mirror.client.set_experiment_tag(mirror.experiment, "mlflow.sharedViewState.front", "mine")
    mirror.finish(results.load(folder), folder, "FINISHED")
    assert mirror.client.get_experiment(mirror.experiment).tags["mlflow.sharedViewState.front"] == "mine"


def test_the_views_select_the_front_and_all_trials_also_while_the_search_runs(
    open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics], store: Path
) -> None:
    study = open_study("scheduler={name: none}", "budget.trials=2", "space.step={choice: [1]}")
    mirror = MlflowMirror.open(f"sqlite:///{store}", study.result(), None)

    def selected(view: str) -> set[str]:
        tags = mirror.client.get_experiment(mirror.experiment).tags
        state = json.loads(json.loads(tags[f"mlflow.sharedViewState.{view}"])["state"])
        found = mirror.client.search_runs([mirror.experiment], state["searchFilter"])
        return {run.data.tags["trial"] for run in found}

    for number, accuracy in enumerate([70.0, 90.0]):
        assert study.next_task() is not None
        for i in range(1, 10):
            study.on_result(number, epoch(i, accuracy, 0.1))
        mirror.write(study.result())
        assert selected("front") == {str(number)}
    assert selected("trials") == {"0", "1"}


def test_a_view_that_an_earlier_version_wrote_is_replaced(mirrored: tuple[Path, str], tmp_path: Path) -> None:
    folder, uri = mirrored
    copied = f"sqlite:///{shutil.copy(uri.removeprefix('sqlite:///'), tmp_path)}"
    mirror = MlflowMirror.open(copied, results.load(folder), None)
    name = "mlflow.sharedViewState.front"
    written = mirror.client.get_experiment(mirror.experiment).tags[name]
    mirror.client.set_experiment_tag(mirror.experiment, name, written.replace("front = 'true'", "status = 'complete'"))
    mirror.finish(results.load(folder), folder, "FINISHED")
    assert mirror.client.get_experiment(mirror.experiment).tags[name] == written


@pytest.mark.parametrize(
    ("own", "environment", "expected"),
    [
        (None, "http://tracking:5000", ("http://tracking:5000", None)),
        ("http://own:5000", "http://tracking:5000", ("http://own:5000", None)),
        ("http://own:5000", None, ("http://own:5000", None)),
        (None, None, None),
        (None, "", None),
    ],
)
def test_the_tracking_uri_of_the_environment_is_used_unless_the_space_has_one(
    own: str | None, environment: str | None, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    default = (f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts" / "s")
    assert mlflow_mirror.resolve_store(own, tmp_path / "s") == (expected or default)


def test_a_wrong_tracking_uri_of_the_environment_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://")
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI: must be a URI, .* \(got 'http://'\)"):
        mlflow_mirror.resolve_store(None, tmp_path / "s")


def test_a_view_of_a_hundred_keys_fits_into_a_tag_of_mlflow(mirrored: tuple[Path, str]) -> None:
    study = results.load(mirrored[0])
    wide = dataclasses.replace(study, searched=tuple(f"attn_threshold_of_layer_{i}" for i in range(100)))
    assert all(len(text) <= 5000 for text in mlflow_views.tags(wide).values())


def test_a_trial_that_waits_on_a_first_front_has_a_scheduled_run_of_a_study_that_has_ended(
    empty_store: Path, tmp_path: Path, read_space: Callable[..., Space], epoch: Callable[..., EpochMetrics]
) -> None:
    space = read_space("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 12}")
    study = Study(space, tmp_path, open_storage(tmp_path))
    for number in range(2):
        assert study.next_task() is not None
        study.on_result(number, epoch(1, 60.0 + number, 0.1 * (2 - number)))
    study.scheduler.budget.set_state(study.trials[0], "paused")
    study._database.save_epoch(0, epoch(1, 60.0, 0.2), "pause")
    study.stop(1, "stopped by the user")
    study.optuna.set_user_attr("waiting", [0])
    study.close()
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    assert mlflow_mirror.is_finished(results.load(tmp_path))
    for _ in range(2):  # a second delivery resumes the run, and leaves it the same
        mirror = MlflowMirror.open(uri, results.load(tmp_path), tmp_path / "artifacts")
        mirror.finish(results.load(tmp_path), tmp_path, "FINISHED")
        found = runs(uri)
        assert sorted(run.info.status for run in found.values()) == ["FINISHED", "FINISHED", "SCHEDULED"]
    loaded = results.load(tracking_uri=uri, experiment="small")
    assert loaded == results.load(tmp_path)
    assert [trial.number for trial in loaded.waiting()] == [0]
