"""Replay: the scheduler repeats the log of a search byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError
from search import replay
from search.storage import event_log
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def run_with_trouble(study: Study, epoch: Epoch, workers: int = 3, cut: int = 10_000) -> None:
    """Runs a study with synthetic results, in which some trials fail, one is stopped and one is added.

    Returns after `cut` reports, or at the end of the search.
    """
    busy: list[list[int]] = []
    for _ in range(cut):
        while len(busy) < workers and (task := study.next_task()) is not None:
            busy.append([task.number, study.trials[task.number].epoch])
        if not busy:
            return study.finish()
        number, done = busy.pop(0)
        tau = study.trials[number].config["tau"]
        if number % 7 == 5:
            study.on_error(number, "silent", "no spikes")
        elif number == 4 and done == 0:
            study.stop(number, "stopped by the user")
            study.enqueue({**study.trials[number].suggestion.values, "tau": 1.5})
        else:
            is_at_chance = number % 5 == 1
            report = epoch(done + 1, 9.0 if is_at_chance else 60.0 + 9 * tau + done, 0.01 + 0.02 * tau**2, 1)
            if study.on_result(number, report) == "continue":
                busy.append([number, done + 1])


@pytest.mark.parametrize(
    "how",
    [
        ["scheduler.mode=promote", "budget.trials=20"],
        ["scheduler.mode=stop", "budget.trials=20"],
        ["scheduler.brackets=2", "budget={epochs: 9, epochs_total: 90}"],
        [
            "space.num_heads={choice: [2, 3]}",
            "constraints={accuracy: {min: 70}, energy_mj: {max: 1}}",
            "sampler.name=nsga2",
        ],
        ["objectives={loss: minimize}", "start_with=[spikformer/digits]", "scheduler.name=none", "budget.trials=6"],
    ],
)
def test_a_replayed_log_is_equal_byte_for_byte(open_study: Open, epoch: Epoch, tmp_path: Path, how: Any) -> None:
    study = open_study(*how)
    run_with_trouble(study, epoch)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) > 20
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_a_log_without_chance_levels_as_earlier_versions_wrote_it_is_replayed(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    study = open_study("scheduler.mode=promote", "budget.trials=20")

    def of_equal_classes(*figures: Any) -> EpochMetrics:
        report = epoch(*figures)
        return replace(report, read_outs=[{**row, "chance": study.space.chance} for row in report.read_outs])

    run_with_trouble(study, of_equal_classes)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {event.pop("chance") for event in events if event["event"] == "decide"} == {10.0}
    lines = [event_log.to_line(event) for event in events]
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_read_outs_with_a_constraint_on_another_metric_are_in_the_log(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    how = ["scheduler.mode=promote", "budget={epochs: 9, epochs_total: 300}", "constraints={energy_mj: {max: 0.03}}"]
    study, workers = open_study(*how, "space.step={choice: [2, 4]}"), 4
    busy: list[list[int]] = []
    while True:
        while len(busy) < workers and (task := study.next_task()) is not None:
            busy.append([task.number, study.trials[task.number].epoch])
        if not busy:
            break
        number, done = busy.pop(0)
        tau, step = study.trials[number].config["tau"], study.trials[number].config["step"]
        report = epoch(done + 1, 60 + 9 * tau + done, 0.1 * tau, step, energy_mj=0.005 * step * tau)
        part = {
            t: {"accuracy": report.metrics["accuracy"] - 2 * (step - t), "energy_mj": 0.005 * t * tau} for t in (1, 2)
        }
        read_outs = [{**read_out, **part.get(t, {})} for t, read_out in enumerate(report.read_outs, start=1)]
        if study.on_result(number, replace(report, read_outs=read_outs)) == "continue":
            busy.append([number, done + 1])
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines
    full = [event for event in map(json.loads, lines) if event.get("decision") == "complete"]
    assert {len(values) for event in full for values in event["read_outs"]} == {3}


@pytest.mark.parametrize("cut", [90, 110])
def test_the_log_of_a_search_interrupted_near_the_end_of_its_budget_is_equal(
    open_study: Open, epoch: Epoch, tmp_path: Path, cut: int
) -> None:
    how = ["scheduler.mode=promote", "budget={epochs: 9, epochs_total: 180}"]
    study = open_study(*how)
    run_with_trouble(study, epoch, workers=8, cut=cut)
    run_with_trouble(open_study(*how), epoch, workers=6)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_the_peak_of_parallel_trials_survives_a_restart_unless_the_budget_changed(
    open_study: Open, epoch: Epoch
) -> None:
    study = open_study("budget.trials=9")
    run_with_trouble(study, epoch, workers=4, cut=8)
    assert len(study.scheduler.running) == 4
    assert open_study("budget.trials=9").scheduler.budget.peak_parallel == study.scheduler.budget.peak_parallel == 4
    assert open_study("budget.trials=9", "tracking_uri=sqlite:///other.db").scheduler.budget.peak_parallel == 4
    assert open_study("budget.trials=10").scheduler.budget.peak_parallel == 0


@pytest.mark.parametrize("cut", [25, 40, 55])
def test_an_interrupted_search_runs_the_same_trials(open_study: Open, epoch: Epoch, tmp_path: Path, cut: int) -> None:
    how = ["budget.trials=30", "sampler.name=tpe", "scheduler.mode=promote"]
    whole, ended = open_study(*how, folder=tmp_path / "whole"), open_study(*how, folder=tmp_path / "ended")
    one_by_one(whole, epoch)
    one_by_one(ended, epoch, cut)
    reopened = open_study(*how, folder=tmp_path / "ended")
    one_by_one(reopened, epoch)
    assert reopened.trials == whole.trials


def one_by_one(study: Study, epoch: Epoch, cut: int = 10_000) -> None:
    """Runs a study on one worker, at most `cut` epochs of it."""
    while (task := study.next_task()) is not None:
        done, going = study.trials[task.number].epoch, True
        while going:
            if not cut:
                return
            cut, done, tau = cut - 1, done + 1, study.trials[task.number].config["tau"]
            going = (
                study.on_result(task.number, epoch(done, 60.0 + 9 * tau + done, 0.01 + 0.02 * tau**2, 1)) == "continue"
            )


SHORT = ["scheduler.mode=promote", "budget={epochs: 9, epochs_total: 50}"]
"""A budget that ends while trials of first fronts wait."""


def train_to_the_end(study: Study, epoch: Epoch, cut: int = 10_000) -> None:
    """Runs a study on eight workers, at most `cut` epochs of it, and ends it."""
    busy: list[int] = []
    for _ in range(cut):
        while len(busy) < 8 and (task := study.next_task()) is not None:
            busy.append(task.number)
        if not busy:
            return study.finish()
        number = busy.pop(0)
        tau, done = study.trials[number].config["tau"], study.trials[number].epoch + 1
        gain = tau if done < 2 else abs(tau - 2.0)
        if study.on_result(number, epoch(done, 40.0 + 15.0 * gain + done, 0.05 + 0.1 * tau)) == "continue":
            busy.append(number)


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_a_study_that_was_finished_and_then_went_on_is_replayed(
    open_study: Open, epoch: Epoch, tmp_path: Path, cut: int
) -> None:
    study = open_study(*SHORT)
    train_to_the_end(study, epoch)
    assert study.waiting()
    for interrupted in (cut, 10_000):
        study.close()
        study = open_study(*SHORT)
        study.finish_front()
        train_to_the_end(study, epoch, interrupted)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert not study.waiting()
    assert [line for line in lines if "finish_front" in line] == [line for line in lines if '"waiting": [' in line]
    assert sum("finish_front" in line for line in lines) == 1
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_a_search_that_continues_after_its_first_fronts_were_finished_is_replayed(
    open_study: Open, epoch: Epoch, tmp_path: Path
) -> None:
    how = ["scheduler.mode=promote", "budget.trials=14"]
    train_to_the_end(open_study(*how), epoch, cut=14)
    finishing = open_study(*how)
    finishing.finish_front()
    train_to_the_end(finishing, epoch)
    assert any(trial.state == "paused" for trial in finishing.trials.values()), "they may be promoted later"
    num_started = len(finishing.trials)
    study = open_study(*how)
    assert not study.is_finished()
    train_to_the_end(study, epoch)
    assert num_started < len(study.started()) == 14
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines if '"waiting"' in line] == ["finish_front", "search"]
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_differences_of_a_study_of_an_earlier_algorithm_are_counted(
    open_study: Open, epoch: Epoch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("scheduler.mode=promote", "budget.trials=12", "start_with=[]")
    run_with_trouble(study, epoch)
    (tmp_path / "space.yml").write_text(study.space.yaml())
    assert study.optuna.user_attrs["algorithm"] == 2
    assert replay.main([str(tmp_path)]) == 0
    assert "all decided as then" in capsys.readouterr().out
    study.optuna.set_user_attr("algorithm", 1)
    assert replay.main([str(tmp_path)]) == 0
    assert "all decided as then" in capsys.readouterr().out, "an equal algorithm decides the same"

    path = tmp_path / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    swapped = next(event for event in events if event.get("decision") == "continue" and event["epoch"] == 3)
    swapped["decision"] = "pause"
    later = next(event for event in reversed(events) if event["event"] == "ask" and event["source"] == "uniform")
    later["values"]["tau"] = 1.2345
    index = events.index(swapped)
    events.insert(index + 1, {"event": "promote", "trial": swapped["trial"], "epoch": 3})
    path.write_text("".join(event_log.to_line(event) + "\n" for event in events))
    assert replay.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "decided by an earlier version of the search's algorithm (1, now 2)" in printed
    assert f" of {len(events)} events are decided otherwise" in printed
    assert "1 decide" in printed
    assert "ask" in printed


def test_every_prefix_of_a_log_is_read_or_refused_with_its_line(open_study: Open, epoch: Epoch, tmp_path: Path) -> None:
    study = open_study("budget.trials=6")
    run_with_trouble(study, epoch)
    path = tmp_path / "events.jsonl"
    content, ends = path.read_bytes(), 0
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = content[:size].count(b"\n")
        if size in (0, len(content)) or b"\n" in (content[size - 1 : size], content[size : size + 1]):
            ends += 1
            assert len(event_log.read_events(path)) in (whole, whole + 1)
        else:
            with pytest.raises(ConfigError, match=rf"events\.jsonl:{whole + 1}: cut off or edited"):
                event_log.read_events(path)
    assert ends > 20


def test_a_different_decision_is_reported_with_its_line(
    open_study: Open, epoch: Epoch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("budget.trials=9")
    run_with_trouble(study, epoch)
    (tmp_path / "space.yml").write_text(study.space.yaml())
    assert replay.main([str(tmp_path)]) == 0
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    changed = next(i for i, line in enumerate(lines) if '"decision": "stop"' in line)
    lines[changed] = lines[changed].replace('"decision": "stop"', '"decision": "continue"')
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert replay.main([str(tmp_path)]) == 1
    assert f"events.jsonl:{changed + 1}: decided otherwise" in capsys.readouterr().out


@pytest.mark.parametrize("budget", ["budget={epochs: 9, epochs_total: 200}", "budget={epochs: 9, trials: 15}"])
def test_a_search_whose_configs_have_several_seeds_is_replayed_also_after_more_of_them(
    open_study: Open, epoch: Epoch, tmp_path: Path, budget: str
) -> None:
    keys = ("scheduler.mode=promote", budget)
    for seeds, cut in ((1, 30), (2, 60), (3, 10_000)):
        study = open_study(*keys, f"seeds={seeds}")
        run_with_trouble(study, epoch, cut=cut)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["seeds"] for line in lines if '"seeds"' in line] == [2, 3]
    assert sum('"seed_of"' in line for line in lines) > 3
    assert list(replay.replay(study.space, map(event_log.from_line, lines), {})) == lines


def test_an_interrupted_search_with_seeds_runs_the_same_trials(open_study: Open, epoch: Epoch, tmp_path: Path) -> None:
    keys = ("seeds=3", "budget={epochs: 9, epochs_total: 120}")
    undisturbed = open_study(*keys, folder=tmp_path / "undisturbed")
    one_by_one(undisturbed, epoch)
    for cut in (5, 15, 30, 10_000):
        study = open_study(*keys, folder=tmp_path / "cut")
        one_by_one(study, epoch, cut=cut)
    expected = [(trial.config, trial.state, trial.epoch) for trial in undisturbed.trials.values()]
    assert [(trial.config, trial.state, trial.epoch) for trial in study.trials.values()] == expected
