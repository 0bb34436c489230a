"""Files are whole: a writer that is killed anywhere leaves the old content or the new one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results import load
from results.report import write_report

ROOT = Path(__file__).parents[2]
SIZE = 5_000_000
WRITER = f"""
import sys
from results.files import write_atomic
write_atomic(sys.argv[1], b"0" * {SIZE})
print("written", flush=True)
for round in range(1, 10_000):
    write_atomic(sys.argv[1], str(round % 10).encode() * {SIZE})
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "file"], cwd=ROOT, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        content = (tmp_path / "file").read_bytes()
        assert len(content) == SIZE
        assert len(set(content)) == 1


def test_a_report_for_which_the_disk_is_full_leaves_the_old_one(
    study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    study, path = load(study_folder), tmp_path / "report.html"
    path.write_text("the old one")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(study, path, "runs/x")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["report.html"]
    assert path.read_text() == "the old one"
