"""Progress in a notebook: one line that replaces itself."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from search.display.live import LiveView
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


@pytest.fixture
def notebook() -> Console:
    """A console as rich makes it in a notebook; nothing is printed through it, which would need IPython."""
    return Console(file=io.StringIO(), force_jupyter=True)


def test_a_notebook_shows_one_line_that_is_updated(
    half_done: Study, epoch: Epoch, notebook: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveView(half_done, 2, notebook) as view:
        half_done.stop(5, "stopped by the user")
        view.update(5)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    states = [line.strip() for line in printed.split("\r") if line]
    assert states[0].startswith("trials 6 of ")
    assert ", 1 stopped, " in states[0]
    assert ", 2 stopped, " in states[-1]
    assert "| front 2 points | hypervolume " in states[-1]
    assert all("t0005" not in state for state in states)


def test_a_shorter_line_covers_the_one_before(
    half_done: Study, notebook: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveView(half_done, 2, notebook) as view:
        capsys.readouterr()
        view.print_line("short")
        assert len(capsys.readouterr().out) > len("\rtrials 6 of 9\n")


def test_a_message_stays_above_the_line(
    half_done: Study, notebook: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveView(half_done, 2, notebook) as view:
        view.print_line("request: it runs next")
    lines = [line.split("\r")[-1].strip() for line in capsys.readouterr().out.split("\n")]
    assert lines[0] == "request: it runs next"
    assert lines[1].startswith("trials ")
