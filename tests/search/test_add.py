"""`search.add`: a config queued from another terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search import add, stop
from search.storage import requests
from search.storage.requests import RequestHandler
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


@pytest.mark.parametrize("module", [stop, add])
def test_a_folder_that_holds_no_study_is_refused(module: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder / "nothing"), *(["x.yml"] if module is add else [])]
    assert module.main(arguments) == 2
    assert "no such study folder" in capsys.readouterr().err


def test_a_config_added_while_no_search_runs_waits_for_the_next_start(
    folder: Path, open_study: Open, capsys: pytest.CaptureFixture[str]
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
        ("tau: 2.0\n", "my.yml: step: missing; it is searched in this study, so the config must have a value of it"),
        ("tao: 2.0\nstep: 1\n", "my.yml:1: tao: unknown key. Did you mean tau?"),
        ("tau: 2.0\nstep: 1\nlr: 0.1\n", "my.yml:3: lr: is not searched in this study"),
    ],
)
def test_a_file_outside_the_space_is_refused(
    folder: Path, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my.yml").write_text(text)
    assert add.main([str(folder), str(folder / "my.yml")]) == 2
    assert expected in capsys.readouterr().err
    assert not (folder / requests.FOLDER).exists()


def test_a_train_file_may_be_added(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "model: spikformer_cifar\ndataset: digits\nepochs: 9\nstep: 2\ntau: 1.5\n"
    (folder / "train.yml").write_text(text)
    assert add.main([str(folder), str(folder / "train.yml")]) == 0
    capsys.readouterr()
