from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

import results
from config.errors import ConfigError
from results.analysis.front import hypervolume
from search import replay
from search.algorithm import moasha
from search.algorithm.scheduler import NothingFeasibleError
from search.space import reader
from search.storage import database
from search.storage.study import Study
from search.tracking import mlflow_mirror
from tests.search.conftest import run_to_the_end, score
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


class KilledError(Exception):
    """The driver is killed here."""


def die(*arguments: Any, **options: Any) -> None:
    raise KilledError


def test_a_study_runs_its_trials_and_ends(open_study: Open, epoch: Epoch) -> None:
    study = open_study()
    assert run_to_the_end(study, epoch, score) == list(range(12))
    states = [trial.state for trial in study.result().trials]
    assert states.count("complete") + states.count("stopped") == 12
    assert states.count("stopped") >= 4
    assert study.is_finished()


def test_an_epoch_that_is_reported_twice_counts_once(open_study: Open, epoch: Epoch) -> None:
    study = open_study()
    task = study.next_task()
    assert task is not None
    assert study.on_result(task.number, epoch(1, 50.0, 0.1)) == "continue"
    assert study.on_result(task.number, epoch(1, 99.0, 0.1)) == "continue"
    assert study.trial_result(task.number).metrics["accuracy"] == 50.0
    assert study.scheduler.budget.epochs_spent == 1


def test_a_reopened_study_resumes_its_unfinished_trials_under_their_numbers(open_study: Open, epoch: Epoch) -> None:
    first = open_study()
    tasks = [first.next_task() for _ in range(3)]
    assert [task.number for task in tasks if task] == [0, 1, 2]
    first.on_result(0, epoch(1, 50.0, 0.1))
    first.on_error(1, "error", "boom")
    reopened = open_study()
    assert reopened.unfinished == [0, 2]
    resumed = [reopened.next_task(), reopened.next_task(), reopened.next_task()]
    assert [task.number for task in resumed if task] == [0, 2, 3]
    assert resumed[0] is not None
    assert tasks[0] is not None
    assert resumed[0].config == tasks[0].config
    assert reopened.scheduler.brackets.first.rungs[1].points == {0: [-50.0, 0.1]}


def test_a_resumed_search_suggests_what_an_undisturbed_one_suggests(
    open_study: Open, epoch: Epoch, tmp_path: Path, read_space: Any
) -> None:
    from search.storage.database import open_storage

    elsewhere = tmp_path / "undisturbed"
    elsewhere.mkdir()
    whole = Study(read_space(), elsewhere, open_storage(elsewhere))
    run_to_the_end(whole, epoch, score)
    while len(open_study().trials) < 12:
        study = open_study()
        task = study.next_task()
        assert task is not None
        for number in range(1, 10):
            rate = 0.02 + score(task.config) / 400
            if study.on_result(task.number, epoch(number, score(task.config), rate, task.config["step"])) == "stop":
                break
    disturbed = open_study()
    assert [r.config for r in disturbed.trials.values()] == [r.config for r in whole.trials.values()]
    assert (tmp_path / "events.jsonl").read_bytes() == (elsewhere / "events.jsonl").read_bytes()
    whole.close()


def test_a_closed_study_is_complete_in_its_database(open_study: Open, epoch: Epoch, tmp_path: Path) -> None:
    study = open_study("budget.trials=3", folder=tmp_path / "own")
    run_to_the_end(study, epoch, score)
    study.close()
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "study.db").write_bytes((tmp_path / "own" / "study.db").read_bytes())
    assert results.load(tmp_path / "copied").trials == study.result().trials


def test_recipes_run_first_and_once(open_study: Open) -> None:
    study = open_study("start_with=[spikformer/digits]")
    tasks = [study.next_task(), study.next_task()]
    recipe = study.space.initial_configs[0][1]
    assert [trial.suggestion.values == recipe for trial in study.trials.values()] == [True, False]
    assert all(tasks)


def test_the_front_of_an_earlier_study_at_the_start_of_the_search_runs_first(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    earlier = open_study("budget.trials=5", folder=tmp_path / "earlier")
    run_to_the_end(earlier, epoch, score)
    earlier.close()
    front = sorted({point.trial for point in earlier.result().front()})
    how = [f"start_with=[{tmp_path / 'earlier'}]", "space.step={choice: [1, 2, 4, 8]}", "study=later"]
    later = open_study(*how, folder=tmp_path / "later")
    for number in front:
        assert later.next_task()
        assert later.trials[len(later.trials) - 1].suggestion.values == earlier.trials[number].suggestion.values
    initial = later.scheduler.candidates.initial
    reopened = open_study("budget.trials=50", folder=tmp_path / "earlier")
    for step in (1, 2):
        reopened.enqueue({**earlier.trials[front[0]].suggestion.values, "tau": 1.2 + step / 10})
    run_to_the_end(reopened, epoch, lambda config: 99.0)
    assert open_study(*how, folder=tmp_path / "later").scheduler.candidates.initial == initial


def test_a_study_resumes_after_the_study_in_start_with_was_deleted(
    open_study: Open, epoch: Epoch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = open_study("budget.trials=5", folder=tmp_path / "earlier")
    run_to_the_end(earlier, epoch, score)
    earlier.close()
    folder = tmp_path / "runs" / "later"
    folder.parent.mkdir()
    later = open_study(f"start_with=[{tmp_path / 'earlier'}]", "study=later", "budget.trials=8", folder=folder)
    initial = later.scheduler.candidates.initial
    (folder / "space.yml").write_text(later.space.yaml())
    (tmp_path / "theirs.yml").write_text(later.space.yaml())
    run_to_the_end(later, epoch, score)
    shutil.rmtree(tmp_path / "earlier")
    space = reader.load(str(folder / "space.yml"))
    reopened = Study(space, folder, database.open_storage(folder))
    assert initial
    assert reopened.scheduler.candidates.initial == initial
    reopened.close()
    assert replay.main([str(folder)]) == 0
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"no such recipe or file .* To resume the study, run `python -m search.run runs/later/spa"
    ):
        reader.load("theirs.yml")


def test_a_constraint_on_parameters_refuses_before_training(open_study: Open) -> None:
    study = open_study(
        "space.embed_dim={choice: [16, 64]}", "fixed={distort: false}", "constraints={params_m: {max: 0.03}}"
    )
    tasks = [study.next_task() for _ in range(6)]
    assert all(task is not None and task.config["embed_dim"] == 16 for task in tasks)


def test_a_space_in_which_every_config_is_refused_is_reported(
    open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 10)
    study = open_study("constraints={params_m: {max: 0.000001}}")
    with pytest.raises(NothingFeasibleError, match="configs in a row were refused"):
        study.next_task()
    reopened = open_study("constraints={params_m: {max: 0.000001}}")
    assert [trial.failure_class for trial in reopened.trials.values()] == ["infeasible"] * 10


def test_a_trial_at_chance_fails_and_is_off_the_front(open_study: Open, epoch: Epoch) -> None:
    study = open_study("scheduler.name=none")
    task = study.next_task()
    assert task is not None
    for number in range(1, 10):
        decision = study.on_result(task.number, epoch(number, 12.0, 0.0001))
        assert decision == ("stop" if number == 9 else "continue")
    assert study.trial_result(0).failure_class == "at_chance"
    assert study.result().front() == []


def test_failures_of_a_config_do_not_stop_a_search_but_five_equal_errors_do(open_study: Open) -> None:
    study = open_study("budget.trials=30")
    for failure_class in ["silent"] * 6 + ["error"] * 5:
        assert study.repeated_failure() is None
        task = study.next_task()
        assert task is not None
        study.on_error(task.number, failure_class, f"the same reason, in a layer of {task.number} units")
    assert study.repeated_failure() == "error: the same reason, in a layer of 6 units"
    assert study.next_task() is None


def test_a_budget_in_epochs_starts_no_trial_that_it_does_not_cover(open_study: Open, epoch: Epoch) -> None:
    study = open_study("budget={epochs: 9, epochs_total: 20}", "scheduler.name=none")
    assert len(run_to_the_end(study, epoch, score)) == 2
    assert study.scheduler.budget.epochs_spent == 18


def test_checkpoints_are_kept_for_running_trials_and_the_front_only(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    study = open_study("scheduler.name=none", "budget.trials=3")
    for number in range(3):
        (tmp_path / "checkpoints" / f"t{number:04d}").mkdir(parents=True)
    tasks = [study.next_task() for _ in range(3)]
    for task, accuracy, rate in zip(tasks[:2], (90.0, 80.0), (0.1, 0.2), strict=True):
        assert task is not None
        for number in range(1, 10):
            study.on_result(task.number, epoch(number, accuracy, rate))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["t0000", "t0002"]


def test_a_trial_completed_on_opening_costs_no_other_trial_its_checkpoint(
    open_study: Open, epoch: Epoch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study("scheduler.name=none", "budget.trials=2")
    for task in [study.next_task(), study.next_task()]:
        assert task is not None
        Path(task.folder).mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(study.scheduler, "commit", die)
        with pytest.raises(KilledError):
            study.on_result(0, epoch(9, 90.0, 0.1))
    reopened = open_study("scheduler.name=none", "budget.trials=2")
    assert reopened.trial_result(0).state == "complete"
    assert {point.trial for point in reopened.front_result.front()} == {0}
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["t0000", "t0001"]


def test_five_equal_errors_of_an_earlier_run_do_not_stop_the_next(open_study: Open) -> None:
    study = open_study()
    for _ in range(5):
        task = study.next_task()
        assert task is not None
        study.on_error(task.number, "error", "no such folder")
    assert study.next_task() is None
    assert open_study().next_task() is not None


def test_the_hours_spent_are_stored_when_a_search_is_killed(
    open_study: Open, epoch: Epoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study("budget={hours: 1, epochs: 9}")
    task = study.next_task()
    assert task is not None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1800.0)
    study.on_result(task.number, epoch(1, 50.0, 0.1))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert open_study("budget={hours: 1, epochs: 9}").hours() == pytest.approx(0.5, abs=0.01)


def test_a_recipe_runs_once_for_any_type_of_its_numbers(open_study: Open) -> None:
    study = open_study(
        "space={threshold: {choice: [0.5, 1, 2]}, mlp_ratio: {int: [1, 4]}, lr: {uniform: [0, 1]}}",
        "start_with=[spikformer/digits]",
    )
    tasks = [study.next_task() for _ in range(4)]
    assert [trial.source for trial in study.trials.values()].count("spikformer/digits") == 1
    assert len({json.dumps(task.config, sort_keys=True) for task in tasks if task is not None}) == 4


def test_every_decision_is_in_the_log_and_follows_from_it(open_study: Open, epoch: Epoch, tmp_path: Path) -> None:

    run_to_the_end(open_study(), epoch, score)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    rungs: dict[int, dict[int, list[float]]] = {}
    decided = 0
    for event in events:
        if event["event"] == "decide" and event["epoch"] in (1, 3):
            rung = rungs.setdefault(event["epoch"], {})
            rung[event["trial"]] = event["point"]
            assert (event["decision"] == "continue") == moasha.survives(rung, event["trial"], 3)
            decided += 1
    assert decided >= 12
    assert {event["event"] for event in events} >= {"ask", "decide", "finish"}


@pytest.mark.parametrize("killed_at", ["optuna_trials.OptunaTrials.close", "study.Study._delete_checkpoints"])
def test_a_decision_of_a_killed_driver_takes_effect_when_the_study_is_opened(
    open_study: Open, epoch: Epoch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, killed_at: str
) -> None:
    study = open_study("scheduler.reduction_factor=2")
    tasks = [study.next_task(), study.next_task()]
    study.on_result(0, epoch(1, 90.0, 0.1))
    with monkeypatch.context() as patch:
        patch.setattr(f"search.storage.{killed_at}", die)
        with pytest.raises(KilledError):
            study.on_result(1, epoch(1, 50.0, 0.2))
    assert all(tasks)
    reopened = open_study("scheduler.reduction_factor=2")
    assert reopened.trial_result(1).state == "stopped"
    assert reopened.unfinished == [0]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if e["trial"] == 1] == ["ask", "decide", "finish"]


@pytest.mark.parametrize(
    "objectives", ["{accuracy: maximize}", "{accuracy: maximize, spike_rate: minimize, energy_mj: minimize}"]
)
def test_a_search_with_one_objective_or_three_runs_to_its_end(open_study: Open, epoch: Epoch, objectives: str) -> None:
    study = open_study(f"objectives={objectives}", "budget.trials=14", "constraints={accuracy: {min: 60}}")
    run_to_the_end(study, epoch, score)
    front = study.result().front()
    assert front
    assert hypervolume(study.front_result) > 0
    best = max(t.metrics["accuracy"] for t in study.result().select("complete"))
    assert any(point.metrics["accuracy"] == best for point in front)


def test_a_report_waits_for_the_disk_once_before_checkpoints_are_deleted(
    open_study: Open, epoch: Epoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(database.os, "fsync", lambda file: calls.append("disk"))
    monkeypatch.setattr(Study, "_delete_checkpoints", lambda study: calls.append("delete"))
    study = open_study("scheduler={name: none}", "budget.epochs=2")
    calls.clear()
    study.next_task()
    assert calls == ["disk"]
    study.on_result(0, epoch(1, 60.0, 0.1))
    assert calls == ["disk"] * 2
    study.on_result(0, epoch(2, 70.0, 0.1))
    assert calls == ["disk"] * 3 + ["delete"]


def test_five_equal_errors_leave_paused_trials_with_their_checkpoints(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    study = open_study("scheduler.mode=promote", "budget.trials=12")
    for accuracy in (70.0, 65.0, 60.0):
        first = study.next_task()
        assert first is not None
        Path(first.folder).mkdir(parents=True)
        for number in range(1, 10):
            if study.on_result(first.number, epoch(number, accuracy, 0.1)) == "stop":
                break
    assert study.trials[first.number].state == "paused"
    for _ in range(5):
        task = study.next_task()
        assert task is not None
        study.on_error(task.number, "error", "the data went away")
    assert study.is_finished()
    study.finish()
    reopened = open_study("scheduler.mode=promote", "budget.trials=12")
    assert reopened.trials[first.number].state == "paused"
    assert Path(first.folder).is_dir()


def test_a_finished_search_spends_no_remainder_of_its_budget_when_restarted(open_study: Open, epoch: Epoch) -> None:
    how = ["scheduler.mode=promote", "budget={epochs: 9, epochs_total: 60}"]
    study = open_study(*how)
    run_to_the_end(study, epoch, score)
    study.finish()
    assert open_study(*how).is_finished()
    assert not open_study(how[0], "budget={epochs: 9, epochs_total: 90}").is_finished()
    study = open_study(*how)
    study.enqueue({"tau": 1.25, "step": 2})
    assert study.is_finished() == study.scheduler.is_finished()


def with_waiting_trials(open_study: Open, epoch: Epoch, *how: str) -> Study:
    """A study whose budget ended while trials of first fronts are paused."""
    study = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 60}", *how)
    busy: list[int] = []
    while True:
        while len(busy) < 4 and (task := study.next_task()) is not None:
            Path(task.folder).mkdir(parents=True, exist_ok=True)
            busy.append(task.number)
        if not busy:
            study.finish()
            return study
        trial = study.trials[busy.pop(0)]
        tau, number = trial.config["tau"], trial.epoch + 1
        accuracy = 9.0 if trial.number == 1 else 40.0 + 15.0 * tau + number
        if study.on_result(trial.number, epoch(number, accuracy, 0.05 + 0.1 * tau)) == "continue":
            busy.append(trial.number)


def test_the_trials_of_the_first_fronts_wait_at_the_end_of_a_search_with_their_checkpoints(
    open_study: Open, epoch: Epoch
) -> None:
    study = with_waiting_trials(open_study, epoch)
    waiting = study.waiting()
    assert waiting
    assert study.is_finished()
    assert {trial.state for trial in waiting} == {"paused"}
    assert [trial.number for trial in study.result().waiting()] == sorted(trial.number for trial in waiting)
    assert {trial.state for trial in study.trials.values()} >= {"paused", "complete", "failed"}
    assert study.trials[1].failure_class == "at_chance"
    checkpoints = {path.name for path in (study.folder / "checkpoints").iterdir()}
    assert checkpoints >= {f"t{trial.number:04d}" for trial in waiting}
    reopened = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 60}")
    assert reopened.is_finished()
    assert reopened.next_task() is None or reopened.scheduler.budget.remaining_epochs() >= 0
    assert [trial.number for trial in reopened.waiting()] == [trial.number for trial in waiting]


def test_waiting_trials_resume_with_a_larger_budget(open_study: Open, epoch: Epoch) -> None:
    waiting = {trial.number for trial in with_waiting_trials(open_study, epoch).waiting()}
    larger = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 200}")
    assert not larger.is_finished()
    run_to_the_end(larger, epoch, score)
    assert any(larger.trials[number].epoch == 9 for number in waiting)


def test_an_interrupted_finishing_waits_again_without_the_option(open_study: Open, epoch: Epoch) -> None:
    first = with_waiting_trials(open_study, epoch)
    waiting = {trial.number for trial in first.waiting()}
    finishing = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 60}")
    finishing.finish_front()
    task = finishing.next_task()
    assert task is not None
    finishing.on_result(task.number, epoch(finishing.trials[task.number].epoch + 1, 80.0, 0.2))
    plain = open_study("scheduler.mode=promote", "budget={epochs: 9, epochs_total: 60}")
    assert plain.is_finished()
    plain.finish()
    assert plain.trials[task.number].state == "running"
    assert {trial.number for trial in plain.waiting()} == waiting
    assert {trial.number for trial in plain.result().interrupted().waiting()} == waiting


def test_a_trial_that_an_earlier_algorithm_paused_between_rungs_continues(open_study: Open, epoch: Epoch) -> None:
    study = open_study("scheduler.mode=promote", "budget.trials=2")
    task = study.next_task()
    assert task is not None
    for number in (1, 2):
        study.scheduler.commit(0, epoch(number, 60.0, 0.1), "continue" if number == 1 else "pause")
        study._database.save_epoch(0, epoch(number, 60.0, 0.1), "continue" if number == 1 else "pause")
    reopened = open_study("scheduler.mode=promote", "budget.trials=2")
    resumed = reopened.next_task()
    assert resumed is not None
    assert (resumed.number, reopened.trials[0].epoch) == (0, 2)
    assert reopened.on_result(0, epoch(3, 65.0, 0.1)) == "continue"


def test_an_exhausted_grid_stays_exhausted_at_the_next_start(open_study: Open) -> None:
    how = ["space={tau: {choice: [1.2, 1.6, 2.0]}, step: {choice: [1, 2]}}", "budget={epochs: 9, epochs_total: 99}"]
    study = open_study(*how)
    assert [study.next_task() is not None for _ in range(7)] == [True] * 6 + [False]
    assert study.scheduler.budget.space_exhausted
    assert open_study(*how).scheduler.budget.space_exhausted


def test_other_folders_among_the_checkpoints_are_not_deleted(open_study: Open, epoch: Epoch, tmp_path: Path) -> None:
    open_study().next_task()
    (tmp_path / "checkpoints" / "t0000.bak").mkdir(parents=True)
    (tmp_path / "checkpoints" / "theirs").mkdir()
    run_to_the_end(open_study(), epoch, score)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_bound_may_be_left_blank(open_study: Open, epoch: Epoch) -> None:
    study = open_study("constraints={accuracy: {min: 10, max: null}}", "scheduler.name=none", "budget.trials=2")
    run_to_the_end(study, epoch, score)
    assert study.result().front()
    assert results.load(study.folder).front()


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a b", "ä"])
def test_a_study_can_be_in_a_folder_of_any_name(open_study: Open, epoch: Epoch, tmp_path: Path, name: str) -> None:
    study = open_study("budget.trials=2", folder=tmp_path / name)
    run_to_the_end(study, epoch, score)
    assert (tmp_path / name / "study.db").stat().st_size
    assert len(results.load(tmp_path / name).trials) == 2
    uri, _ = mlflow_mirror.resolve_store(None, tmp_path / name / "s")
    assert make_url(uri).database == str(tmp_path / name / "mlflow.db")


GRID = ("space={tau: {choice: [1.2, 1.6, 2.0]}}", "budget={trials: 3, epochs: 3}", "scheduler={name: none}")


def test_raised_seeds_are_trained_in_a_finished_study_and_lead_to_its_means(open_study: Open, epoch: Epoch) -> None:
    study = open_study(*GRID)
    assert run_to_the_end(study, epoch, score) == [0, 1, 2]
    study.finish()
    single = {point.trial: point.metrics["accuracy"] for point in study.result().points()}
    more = open_study(*GRID, "seeds=2")
    assert not more.is_finished()
    order = run_to_the_end(more, epoch, lambda config: score(config) + config["seed"] % 42)
    assert order == [3, 4, 5]
    assert {p.trial: p.metrics["accuracy"] for p in more.result().points()} == {
        number: pytest.approx(accuracy + 0.5) for number, accuracy in single.items()
    }
    more.finish()
    assert [trial.seed_of for trial in results.load(more.folder).trials] == [None, None, None, 0, 1, 2]
    assert open_study(*GRID, "seeds=2").is_finished()


def test_checkpoints_of_configs_that_lack_a_seed_are_kept(open_study: Open, epoch: Epoch) -> None:
    study = open_study(*GRID, "seeds=2")
    accuracies = iter([90.0, 70.0, 80.0, 88.0, 60.0, 60.0])  # the first config has a mean of 80
    kept = []
    while (task := study.next_task()) is not None:
        (study.folder / "checkpoints" / f"t{task.number:04d}").mkdir(parents=True)
        accuracy = next(accuracies)
        for number in range(1, 4):
            study.on_result(task.number, epoch(number, accuracy, 0.1))
        kept.append(sorted(int(path.name[1:]) for path in (study.folder / "checkpoints").iterdir()))
    assert kept == [[0], [0], [0, 2], [2], [2, 4], [2]]
    assert [point.trial for point in study.result().front()] == [2]
    assert [point.trial for point in study.front_result.front()] == [2]
