from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search import lock


def test_the_lock_names_its_holder_and_goes_away(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "driver.lock").exists()


def test_a_second_driver_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with (
        lock.hold(tmp_path),
        pytest.raises(lock.LockedError, match=rf"being run by process {os.getpid()} on .* since .*--name"),
        lock.hold(tmp_path),
    ):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, pathlib\n"
        "from search import lock\n"
        f"held = lock.hold(pathlib.Path({str(tmp_path)!r}))\n"
        "held.__enter__()\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    assert (tmp_path / "driver.lock").exists()
    with lock.hold(tmp_path):
        pass


def test_a_lock_from_another_machine_is_respected(tmp_path: Path) -> None:
    other = {"pid": 1, "born": "1", "host": "elsewhere", "since": "2026-01-01 00:00:00"}
    (tmp_path / "driver.lock").write_text(json.dumps(other))
    with pytest.raises(lock.LockedError, match="on elsewhere since 2026-01-01"), lock.hold(tmp_path):
        pass


def test_a_lock_that_was_cut_off_while_written_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text('{"pid": 12')
    with lock.hold(tmp_path):
        pass


def test_a_process_number_that_was_given_to_another_process_is_no_holder(tmp_path: Path) -> None:
    import socket

    other = {"pid": os.getpid(), "born": "0", "host": socket.gethostname(), "since": "long ago"}
    (tmp_path / "driver.lock").write_text(json.dumps(other))
    with lock.hold(tmp_path):
        pass
