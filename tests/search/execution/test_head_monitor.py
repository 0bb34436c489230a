"""A driver whose cluster loses its head node."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.execution import head_monitor

ROOT = Path(__file__).parents[3]
SPACE = """\
study: headless
base: spikformer/digits
fixed: {distort: false, embed_dim: 16}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 3.0]}
budget: {trials: 500, epochs: 20}
scheduler: {name: none}
concurrency: 1
"""


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def test_a_head_is_reachable_while_its_port_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert head_monitor.is_listening(address)
    assert not head_monitor.is_listening(address)


@pytest.mark.slow
@pytest.mark.ray
def test_a_driver_whose_head_is_lost_ends_within_90_seconds_with_the_command_to_resume(tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text(SPACE)
    command = [sys.executable, "-m", "search.run", str(tmp_path / "space.yml"), "--out", str(tmp_path / "runs")]
    environment = {**os.environ, "STUB_LOG": str(tmp_path / "log"), "STUB_EPOCH_S": "0.05"}
    driver = subprocess.Popen(
        [*command, "--import", "tests.support.stub_trainer"], cwd=ROOT, env=environment, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "log").exists() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        [head] = [pid for pid in children(driver.pid) if Path(f"/proc/{pid}/comm").read_text() == "gcs_server\n"]
        lost = time.monotonic()
        os.kill(head, signal.SIGKILL)
        _, printed = driver.communicate(timeout=150)
    finally:
        driver.kill()
    assert time.monotonic() - lost < 90
    assert driver.returncode == 4
    assert "To resume: python -m search.run" in printed
