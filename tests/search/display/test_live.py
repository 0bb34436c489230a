"""The live view: refresh rate, and plain lines in a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from search.display import dashboard
from search.display.live import LiveView
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def test_the_view_is_refreshed_at_most_twice_a_second(half_done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    monkeypatch.setattr(dashboard, "render", lambda shown: rendered.append(shown) or "")
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveView(half_done, 2, console) as progress:
        for _ in range(100):
            progress.tick()
    assert len(rendered) == 1


def test_a_pipe_gets_one_line_for_an_ended_trial(half_done: Study, epoch: Epoch) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(half_done, 2, console) as progress:
        half_done.stop(5, "stopped by the user")
        progress.update(5)
        progress.update(5)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert printed.count("t0005  stopped") == 1
    assert printed.count("\n") == 1


def test_brackets_in_a_reason_are_text(half_done: Study) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(half_done, 2, console) as progress:
        half_done.on_error(5, "error", "[/data/x.bin] and [enforce fail at alloc.cpp:117] err")
        progress.update(5)
    assert isinstance(console.file, io.StringIO)
    assert "[/data/x.bin] and [enforce fail at alloc.cpp:117] err" in console.file.getvalue()
