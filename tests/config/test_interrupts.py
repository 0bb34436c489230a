"""Handling of Ctrl-C and SIGTERM in a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, signal, sys, time
from config import cli, interrupts

def send(number):
    os.kill(os.getpid(), number)

def body():
    try:
        {work}
    finally:
        {clean_up}
        print("cleaned up", flush=True)

sys.exit(cli.run(body))
"""
DEFERRED = "\n        ".join(
    ["with interrupts.deferred():", "    send(signal.SIGINT)", "    print('whole', flush=True)"]
)


def run(work: str, clean_up: str = "pass") -> tuple[int, str]:
    """Runs a command that signals itself in a separate process; returns its exit code and its output."""
    arguments = [sys.executable, "-c", SCRIPT.format(work=work, clean_up=clean_up)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_command_after_clean_up(name: str, code: int) -> None:
    assert run(f"send(signal.{name}); time.sleep(60)") == (code, "cleaned up\n")


def test_a_second_signal_ends_a_command_at_once() -> None:
    second = "send(signal.SIGTERM); time.sleep(9)"
    assert run("send(signal.SIGINT); time.sleep(60)", clean_up=second) == (143, "")


def test_a_deferred_interruption_is_raised_at_the_end_of_the_context() -> None:
    assert run(DEFERRED + "\n        time.sleep(60)") == (130, "whole\ncleaned up\n")
