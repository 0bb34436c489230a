"""Atomic writes under kills."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIZE = 5_000_000
WRITER = f"""
import sys
from config.files import write_atomic
write_atomic(sys.argv[1], b"0" * {SIZE})
print("written", flush=True)
for round in range(1, 10_000):
    write_atomic(sys.argv[1], str(round % 10).encode() * {SIZE})
"""


def test_a_writer_that_is_killed_at_any_time_leaves_a_complete_file(tmp_path: Path) -> None:
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
