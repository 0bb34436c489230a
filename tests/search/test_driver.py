"""The search from Python."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import results
import search
from config import interrupts, strict_yaml
from config.errors import ConfigError
from search import driver

SPACE = """\
study: called
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, val_fraction: 0.4}
objectives: {accuracy: maximize, spike_rate: minimize}
space: {tau: {uniform: [1.1, 1.6]}, lr: {choice: [0.02]}, step: {choice: [1]}}
budget: {trials: 2, epochs: 3}
"""


@pytest.mark.ray
def test_run_study_returns_the_results_of_the_search(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    space: dict[str, Any] = strict_yaml.parse(SPACE, "called.yml").data
    study = search.run_study(space, tmp_path, overrides=["budget.trials=1"])
    assert isinstance(study, results.StudyResult)
    assert (study.name, len(study.trials)) == ("called", 1)
    assert study.front()
    assert study == results.load(tmp_path / "called")
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_in_the_space_raises_an_exception_with_its_message(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SPACE.replace("trials", "trails"))
    with pytest.raises(ConfigError, match=r"x.yml:6: budget.trails: unknown key. Did you mean trials\?"):
        search.run_study(tmp_path / "x.yml", tmp_path)


def test_ctrl_c_raises_keyboard_interrupt_and_the_caller_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return 0

    monkeypatch.setattr(driver, "run_in_folder", press)
    (tmp_path / "x.yml").write_text(SPACE)
    with pytest.raises(KeyboardInterrupt):
        search.run_study(tmp_path / "x.yml", tmp_path)
    assert interrupts._deferral.timer is None
