"""`search.stop`: a search or a trial stopped from another terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search import stop
from search.storage import lock, requests
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]
VALUES = {"tau": 2.5, "step": 1}


@pytest.fixture
def folder(open_study: Open, tmp_path: Path) -> Path:
    study = open_study()
    (tmp_path / "space.yml").write_text(study.space.yaml())
    return tmp_path


def test_a_search_that_does_not_run_cannot_be_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stop.main([str(folder)]) == 2
    assert "no search runs there" in capsys.readouterr().err
    assert not (folder / requests.FOLDER).exists()


@pytest.mark.parametrize("name", ["0", "t0", "t0000", "T0000"])
def test_a_running_search_replies(
    name: str, folder: Path, open_study: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def driver(path: Path, timeout_s: float = 0.0) -> str:
        path.unlink()
        return "t0000 is stopped after epoch 2"

    open_study().next_task()
    monkeypatch.setattr(requests, "wait_for_reply", driver)
    with lock.hold(folder):
        assert stop.main([str(folder), "--trial", name]) == 0
    assert "t0000 is stopped" in capsys.readouterr().out


def test_a_missing_trial_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stop.main([str(folder), "--trial", "3"]) == 2
    assert "--trial 3: there is no trial 3 in small" in capsys.readouterr().err
    assert not (folder / requests.FOLDER).exists()


@pytest.mark.parametrize("name", ["t", "best", "-1", "1.0", "", "\u00b2"])
def test_a_name_that_no_trial_can_have_is_refused(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stop.main([str(folder), f"--trial={name}"]) == 2
    text = f"--trial {name}: must be a trial's number or name, such as 31 or t0031 (got {name!r})"
    assert text in capsys.readouterr().err
