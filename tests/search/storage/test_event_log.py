"""The event log: each event once, and repaired after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.storage.event_log import EventLog


def write_three(path: Path) -> bytes:
    log = EventLog(path)
    log.write("ask", 0, values={"tau": 2.0})
    log.write("decide", 0, epoch=1, decision="continue")
    log.write("finish", 0, epoch=9, state="complete")
    log.close()
    return path.read_bytes()


def test_an_event_is_written_once_by_several_drivers(tmp_path: Path) -> None:
    whole = write_three(tmp_path / "events.jsonl")
    assert write_three(tmp_path / "events.jsonl") == whole
    assert whole.count(b"\n") == 3


def test_a_truncated_log_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = write_three(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert write_three(path) == whole


@pytest.mark.parametrize("damage", [b"\x00\x00", b"not json\n", b"\xff\xfe"])
def test_events_after_a_damaged_line_are_written_again(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    whole = write_three(path)
    path.write_bytes(whole[: whole.index(b"\n") + 1] + damage)
    assert write_three(path) == whole


def test_a_trial_that_is_retried_for_two_reasons_has_both_in_the_log(tmp_path: Path) -> None:
    for _ in range(2):
        log = EventLog(tmp_path / "events.jsonl")
        for failure_class in ("oom", "stalled"):
            log.write("retry", 3, failure_class=failure_class)
        log.close()
    assert [json.loads(line)["kind"] for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        "oom",
        "stalled",
    ]


def test_a_mode_is_in_the_log_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for is_finishing in (False, True, True, False, True):
        log = EventLog(path)
        log.set_mode(is_finishing, [7, 2])
        log.set_mode(is_finishing, [])
        log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"event": mode, "waiting": [2, 7]} for mode in ("finish_front", "search", "finish_front")
    ]
    path.write_bytes(path.read_bytes()[:-3])  # a crash in the middle of the line
    log = EventLog(path)
    log.set_mode(True, [2])
    log.close()
    assert json.loads(path.read_text().splitlines()[-1]) == {"event": "finish_front", "waiting": [2]}
