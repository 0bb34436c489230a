"""The driver lock: one driver per study, and dead processes hold no lock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config import lock_file
from search.storage import lock


def test_the_lock_names_its_holder_and_is_released(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "driver.lock").exists()


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with (
        lock.hold(tmp_path),
        pytest.raises(lock.LockedError, match=rf"being run by process {os.getpid()} on .* since .*--name"),
        lock.hold(tmp_path),
    ):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, pathlib\n"
        "from search.storage import lock\n"
        f"held = lock.hold(pathlib.Path({str(tmp_path)!r}))\n"
        "held.__enter__()\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3])
    assert (tmp_path / "driver.lock").exists()
    with lock.hold(tmp_path):
        pass


def test_a_lock_from_another_machine_is_respected(tmp_path: Path) -> None:
    other = {"pid": 1, "born": "1", "host": "elsewhere", "since": "2026-01-01 00:00:00"}
    (tmp_path / "driver.lock").write_text(json.dumps(other))
    with pytest.raises(lock.LockedError, match="on elsewhere since 2026-01-01"), lock.hold(tmp_path):
        pass


def test_an_incomplete_lock_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text('{"pid": 12')
    with lock.hold(tmp_path):
        pass


def test_a_process_is_identified_by_its_start_time_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_file, "PROCESSES", tmp_path / "none")
    with lock.hold(tmp_path):
        assert lock.holder(tmp_path) is not None
        other = json.loads((tmp_path / "driver.lock").read_text()) | {"born": "1.0"}
        (tmp_path / "driver.lock").write_text(json.dumps(other))
        assert lock.holder(tmp_path) is None


def test_a_reused_process_number_does_not_hold_the_lock(tmp_path: Path) -> None:
    other = {"pid": os.getpid(), "born": "0", "host": socket.gethostname(), "since": "long ago"}
    (tmp_path / "driver.lock").write_text(json.dumps(other))
    with lock.hold(tmp_path):
        pass


def test_one_of_many_drivers_that_start_at_once_takes_over_a_dead_lock(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from search.storage import lock\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    pass\n"
        "try:\n"
        "    held = lock.hold(pathlib.Path(sys.argv[1]))\n"
        "    held.__enter__()\n"
        "except lock.LockedError:\n"
        "    sys.exit(3)\n"
        "pathlib.Path(sys.argv[2] + sys.argv[3]).touch()\n"
        "while len(list(pathlib.Path(sys.argv[1]).glob('over'))) == 0:\n"
        "    time.sleep(0.01)\n"
    )
    folder, start = tmp_path / "study", tmp_path / "start"
    folder.mkdir()
    (folder / "driver.lock").write_text(json.dumps({"pid": 1, "born": "0", "host": socket.gethostname(), "since": ""}))
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, str(folder), str(start)]
    starters = [subprocess.Popen([*command, str(n)], cwd=root) for n in range(6)]
    time.sleep(1.0)
    start.touch()
    refused = 0
    deadline = time.monotonic() + 60
    while refused < 5 and time.monotonic() < deadline:
        refused = sum(starter.poll() is not None for starter in starters)
        time.sleep(0.02)
    (folder / "over").touch()
    codes = sorted(starter.wait(60) for starter in starters)
    assert codes == [0, 3, 3, 3, 3, 3]


def test_the_lock_holds_the_batches_of_running_trials(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        lock.update(tmp_path, slots=2, hours_before=0.5)
        lock.update(tmp_path, batches={3: (1, 50, 200)})
        found = lock.holder(tmp_path)
    assert found is not None
    assert (found.slots, found.hours_before, found.batches) == (2, 0.5, {3: (1, 50, 200)})
