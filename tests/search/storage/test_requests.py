"""Requests to a study from another terminal: sent as files, handled between two steps, answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from config import interrupts
from search.storage import requests
from search.storage.requests import ControlRequest, RequestHandler
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]
VALUES = {"tau": 2.5, "step": 1}


@pytest.fixture
def printed() -> list[str]:
    return []


@pytest.fixture
def handler(open_study: Open, printed: list[str]) -> RequestHandler:
    return RequestHandler(open_study(), printed.append)


def reply_to(handler: RequestHandler, request: ControlRequest) -> str:
    """Sends a request, lets the handler poll, and returns the reply."""
    path = requests.send(handler.study.folder, request)
    handler._next_poll = 0.0
    handler.poll()
    reply = requests.wait_for_reply(path, 0.0)
    assert reply is not None
    assert not list((handler.study.folder / requests.FOLDER).iterdir())
    return reply


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_trial_stopped_by_the_user_is_pruned_with_the_reason_and_logged(
    handler: RequestHandler, epoch: Epoch, tmp_path: Path
) -> None:
    study = handler.study
    study.next_task()
    study.on_result(0, epoch(1, 90.0, 0.1))
    assert reply_to(handler, ControlRequest("stop_trial", trial=0)) == "t0000 is stopped after epoch 1"
    assert study.optuna.trials[0].state == optuna.trial.TrialState.PRUNED
    found = study.trial_result(0)
    assert (found.state, found.stop_reason, found.failure_class) == ("stopped", requests.USER_STOP, None)
    assert [e["event"] for e in events(tmp_path)] == ["ask", "decide", "stop", "finish"]
    assert study.on_result(0, epoch(2, 91.0, 0.1)) == "stop"
    assert study.to_stop == {0}


def test_a_trial_can_be_stopped_before_its_first_epoch(handler: RequestHandler) -> None:
    handler.study.next_task()
    assert reply_to(handler, ControlRequest("stop_trial", trial=0)) == "t0000 is stopped after epoch 0"
    assert handler.study.trial_result(0).state == "stopped"


def test_a_trial_that_does_not_run_cannot_be_stopped(handler: RequestHandler, epoch: Epoch) -> None:
    handler.study.next_task()
    handler.study.on_error(0, "error", "boom")
    assert "ended already (failed)" in reply_to(handler, ControlRequest("stop_trial", trial=0))
    assert "there is no trial 7" in reply_to(handler, ControlRequest("stop_trial", trial=7))


def test_a_trial_is_stopped_even_if_the_driver_is_killed_during_the_request(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    study.next_task()
    study._database.set_attr(0, "note", requests.USER_STOP)
    reopened = open_study()
    assert (reopened.trial_result(0).state, reopened.unfinished) == ("stopped", [])
    assert [e["event"] for e in events(tmp_path)] == ["ask", "stop", "finish"]


def test_an_added_config_runs_next_and_once_also_after_a_restart(handler: RequestHandler, open_study: Open) -> None:
    handler.study.next_task()
    assert reply_to(handler, ControlRequest("add", values=VALUES)) == "it runs next"
    assert reply_to(handler, ControlRequest("add", values=VALUES)) == "it runs next"
    study = open_study()
    resumed, added, other = study.next_task(), study.next_task(), study.next_task()
    assert resumed is not None
    assert added is not None
    assert other is not None
    assert (resumed.number, added.number, added.config["tau"], added.config["step"]) == (0, 1, 2.5, 1)
    assert other.config["tau"] != 2.5
    assert study.optuna.trials[1].user_attrs["source"] == "added"
    assert reply_to(RequestHandler(study), ControlRequest("add", values=VALUES)) == "not added: t0001 has these values"


def test_added_values_outside_the_space_are_refused(handler: RequestHandler) -> None:
    assert "not added: tau is 9.0" in reply_to(handler, ControlRequest("add", values={"tau": 9.0, "step": 1}))
    assert handler.study.scheduler.candidates.queue == []


def test_an_added_config_waits_for_a_larger_budget(open_study: Open) -> None:
    study = open_study("budget.trials=1")
    study.next_task()
    assert "the budget is spent" in reply_to(RequestHandler(study), ControlRequest("add", values=VALUES))


def test_a_request_to_stop_the_search_interrupts_it(handler: RequestHandler) -> None:
    path = requests.send(handler.study.folder, ControlRequest("stop"))
    with pytest.raises(interrupts.Interrupted):
        handler.poll()
    assert requests.wait_for_reply(path, 0.0) == "the search stops"


def test_the_next_start_adds_configs_but_ignores_an_old_request_to_stop(
    open_study: Open, printed: list[str], tmp_path: Path
) -> None:
    requests.send(tmp_path, ControlRequest("add", values=VALUES))
    requests.send(tmp_path, ControlRequest("stop"))
    study = open_study()
    RequestHandler(study, printed.append).process_leftover()
    assert printed == ["request: it runs next", "request: the search had ended already"]
    task = study.next_task()
    assert task is not None
    assert task.config["tau"] == 2.5


def test_added_values_that_cannot_be_combined_are_refused(open_study: Open) -> None:
    handler = RequestHandler(open_study("space.num_heads={choice: [2, 3]}"))
    answer = reply_to(handler, ControlRequest("add", values={**VALUES, "num_heads": 3}))
    assert answer == "not added: num_heads must divide embed_dim (got embed_dim=16, num_heads=3)"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"kind": "add", "trial": null, "values": 3}',
        "[]",
        '{"kind": "dance", "trial": null, "values": {}}',
        '{"kind": 3}',
    ],
)
def test_an_invalid_request_is_answered_and_removed(handler: RequestHandler, content: str, tmp_path: Path) -> None:
    (tmp_path / requests.FOLDER).mkdir()
    (tmp_path / requests.FOLDER / "1.json").write_text(content)
    handler.poll()
    assert (tmp_path / requests.FOLDER / "1.answer").read_text() == "unknown request"
    assert not (tmp_path / requests.FOLDER / "1.json").exists()


def test_requests_are_polled_once_a_second(handler: RequestHandler) -> None:
    handler.poll()
    requests.send(handler.study.folder, ControlRequest("stop"))
    handler.poll()
