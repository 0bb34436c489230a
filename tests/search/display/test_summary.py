"""The end of a search."""

from __future__ import annotations

from collections.abc import Callable

from search.display import summary
from search.storage.study import Study


def test_a_search_stopped_by_failures_shows_the_first_traceback_the_config_and_the_log(
    open_study: Callable[..., Study],
) -> None:
    study = open_study()
    for number in range(5):
        assert study.next_task() is not None
        study.on_error(number, "error", 'KeyError: x\n  File "own.py", line 3, in forward')
    text = summary.repeated_failures(study)
    assert 't0000: error: KeyError: x\n  File "own.py", line 3, in forward\n' in text
    assert all(f" {key}=" in text for key in study.result().trials[0].params)
    assert str(study.folder / "events.jsonl") in text
