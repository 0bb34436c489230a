"""Orders to a study from another terminal: sent as files, acted on between two steps, answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from config import interrupts
from search import add, stop
from search.storage import lock, requests
from search.storage.requests import ControlRequest, RequestHandler
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]
VALUES = {"tau": 2.5, "step": 1}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def desk(open_study: Open, said: list[str]) -> RequestHandler:
    return RequestHandler(open_study(), said.append)


def ask(desk: RequestHandler, order: ControlRequest) -> str:
    """Sends an order, has it taken, and returns the answer."""
    path = requests.send(desk.study.folder, order)
    desk._next_poll = 0.0
    desk.poll()
    answer = requests.wait_for_reply(path, 0.0)
    assert answer is not None
    assert not list((desk.study.folder / requests.FOLDER).iterdir())
    return answer


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_trial_stopped_by_hand_is_pruned_with_a_note_and_logged(
    desk: RequestHandler, epoch: Epoch, tmp_path: Path
) -> None:
    study = desk.study
    study.next_task()
    study.on_result(0, epoch(1, 90.0, 0.1))
    assert ask(desk, ControlRequest("stop_trial", trial=0)) == "t0000 is stopped after epoch 1"
    assert study.optuna.trials[0].state == optuna.trial.TrialState.PRUNED
    found = study.trial_result(0)
    assert (found.state, found.stop_reason, found.failure_class) == ("stopped", requests.USER_STOP, None)
    assert [e["event"] for e in events(tmp_path)] == ["ask", "decide", "stop", "finish"]
    assert study.on_result(0, epoch(2, 91.0, 0.1)) == "stop"
    assert study.to_stop == {0}


def test_a_trial_can_be_stopped_before_its_first_epoch(desk: RequestHandler) -> None:
    desk.study.next_task()
    assert ask(desk, ControlRequest("stop_trial", trial=0)) == "t0000 is stopped after epoch 0"
    assert desk.study.trial_result(0).state == "stopped"


def test_what_cannot_be_stopped_is_said(desk: RequestHandler, epoch: Epoch) -> None:
    desk.study.next_task()
    desk.study.on_error(0, "error", "boom")
    assert "ended already (failed)" in ask(desk, ControlRequest("stop_trial", trial=0))
    assert "there is no trial 7" in ask(desk, ControlRequest("stop_trial", trial=7))


def test_a_driver_killed_while_it_stopped_a_trial_has_stopped_it(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    study.next_task()
    study._database.set_attr(0, "note", requests.USER_STOP)
    again = open_study()
    assert (again.trial_result(0).state, again.unfinished) == ("stopped", [])
    assert [e["event"] for e in events(tmp_path)] == ["ask", "stop", "finish"]


def test_an_added_config_runs_next_and_once_also_after_a_restart(desk: RequestHandler, open_study: Open) -> None:
    desk.study.next_task()
    assert ask(desk, ControlRequest("add", values=VALUES)) == "it runs next"
    assert ask(desk, ControlRequest("add", values=VALUES)) == "it runs next"
    study = open_study()
    resumed, added, other = study.next_task(), study.next_task(), study.next_task()
    assert resumed is not None
    assert added is not None
    assert other is not None
    assert (resumed.number, added.number, added.config["tau"], added.config["step"]) == (0, 1, 2.5, 1)
    assert other.config["tau"] != 2.5
    assert study.optuna.trials[1].user_attrs["source"] == "added"
    assert ask(RequestHandler(study), ControlRequest("add", values=VALUES)) == "not added: t0001 has these values"


def test_added_values_outside_the_space_are_refused(desk: RequestHandler) -> None:
    assert "not added: tau is 9.0" in ask(desk, ControlRequest("add", values={"tau": 9.0, "step": 1}))
    assert desk.study.scheduler.candidates.queue == []


def test_an_added_config_waits_where_the_budget_is_spent(open_study: Open) -> None:
    study = open_study("budget.trials=1")
    study.next_task()
    assert "the budget is spent" in ask(RequestHandler(study), ControlRequest("add", values=VALUES))


def test_an_order_to_end_the_search_interrupts_it(desk: RequestHandler) -> None:
    path = requests.send(desk.study.folder, ControlRequest("stop"))
    with pytest.raises(interrupts.Interrupted):
        desk.poll()
    assert requests.wait_for_reply(path, 0.0) == "the search stops"


def test_at_the_next_start_configs_are_taken_and_an_old_order_to_end_is_not_obeyed(
    open_study: Open, said: list[str], tmp_path: Path
) -> None:
    requests.send(tmp_path, ControlRequest("add", values=VALUES))
    requests.send(tmp_path, ControlRequest("stop"))
    study = open_study()
    RequestHandler(study, said.append).process_leftover()
    assert said == ["request: it runs next", "request: the search had ended already"]
    task = study.next_task()
    assert task is not None
    assert task.config["tau"] == 2.5


def test_added_values_that_do_not_go_together_are_refused(open_study: Open) -> None:
    desk = RequestHandler(open_study("space.num_heads={choice: [2, 3]}"))
    answer = ask(desk, ControlRequest("add", values={**VALUES, "num_heads": 3}))
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
def test_a_file_that_is_no_order_is_answered_and_removed(desk: RequestHandler, content: str, tmp_path: Path) -> None:
    (tmp_path / requests.FOLDER).mkdir()
    (tmp_path / requests.FOLDER / "1.json").write_text(content)
    desk.poll()
    assert (tmp_path / requests.FOLDER / "1.answer").read_text() == "unknown request"
    assert not (tmp_path / requests.FOLDER / "1.json").exists()


def test_orders_are_looked_for_once_a_second(desk: RequestHandler) -> None:
    desk.poll()
    requests.send(desk.study.folder, ControlRequest("stop"))
    desk.poll()


class TestCommands:
    @pytest.fixture
    def folder(self, open_study: Open, tmp_path: Path) -> Path:
        study = open_study()
        (tmp_path / "space.yml").write_text(study.space.yaml())
        return tmp_path

    def test_nothing_runs_so_there_is_nothing_to_stop(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert stop.main([str(folder)]) == 2
        assert "no search runs there" in capsys.readouterr().err
        assert not (folder / requests.FOLDER).exists()

    @pytest.mark.parametrize("module", [stop, add])
    def test_a_folder_that_holds_no_study_is_refused(
        self, module: object, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [str(folder / "nothing"), *(["x.yml"] if module is add else [])]
        assert module.main(arguments) == 2  # type: ignore[attr-defined]
        assert "no such study folder" in capsys.readouterr().err

    def test_a_running_search_answers(
        self, folder: Path, open_study: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def driver(path: Path, timeout_s: float = 0.0) -> str:
            path.unlink()
            return "t0000 is stopped after epoch 2"

        open_study().next_task()
        monkeypatch.setattr(requests, "wait_for_reply", driver)
        with lock.hold(folder):
            assert stop.main([str(folder), "--trial", "0"]) == 0
        assert "t0000 is stopped" in capsys.readouterr().out

    def test_a_trial_that_is_not_there_is_refused(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert stop.main([str(folder), "--trial", "3"]) == 2
        assert "--trial 3: there is no trial 3 in small" in capsys.readouterr().err
        assert not (folder / requests.FOLDER).exists()

    def test_a_config_added_while_nothing_runs_waits_for_the_next_start(
        self, folder: Path, open_study: Open, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "my.yml").write_text("tau: 1.75\nstep: 2\n")
        assert add.main([str(folder), str(folder / "my.yml")]) == 0
        assert "when the study is started again" in capsys.readouterr().out
        study = open_study()
        RequestHandler(study, lambda text: None).process_leftover()
        task = study.next_task()
        assert task is not None
        assert (task.config["tau"], task.config["step"]) == (1.75, 2)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("tau: 9.0\nstep: 1\n", "tau is 9.0 there, which is outside its distribution"),
            ("tau: 2.0\n", "step is None there"),
            ("tao: 2.0\nstep: 1\n", "my.yml:1: tao: unknown key. Did you mean tau?"),
            ("tau: 2.0\nstep: 1\nlr: 0.1\n", "my.yml:3: lr: is not searched in this study"),
        ],
    )
    def test_a_file_that_is_no_point_of_the_space_is_refused(
        self, folder: Path, text: str, expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "my.yml").write_text(text)
        assert add.main([str(folder), str(folder / "my.yml")]) == 2
        assert expected in capsys.readouterr().err
        assert not (folder / requests.FOLDER).exists()

    def test_a_whole_train_file_may_be_added(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = "model: spikformer_cifar\ndataset: digits\nepochs: 9\nstep: 2\ntau: 1.5\n"
        (folder / "train.yml").write_text(text)
        assert add.main([str(folder), str(folder / "train.yml")]) == 0
        capsys.readouterr()
