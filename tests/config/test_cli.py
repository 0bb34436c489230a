from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from config import cli, interrupts
from config.errors import ConfigError

ROOT = Path(__file__).parents[2]


def raises(error: BaseException) -> int:
    """Runs a command whose body raises, and returns its exit code."""

    def body() -> int:
        raise error

    return cli.run(body)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("f.yml:3: lr: must be a number"), 2),
        (cli.CommandError(cli.ENVIRONMENT, "no data"), 4),
        (cli.CommandError(cli.NOTHING_SUCCEEDED, "all failed"), 3),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_a_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    assert raises(error) == code
    assert capsys.readouterr() == ("", f"{error}\n")


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        raises(ZeroDivisionError())


def test_an_interruption_gives_the_code_of_its_signal() -> None:
    assert raises(interrupts.Interrupted(signal.SIGINT)) == 130
    assert raises(interrupts.Interrupted(signal.SIGTERM)) == 143


def test_warnings_for_the_user_are_plain_sentences_and_those_for_programmers_are_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body() -> int:
        warnings.warn("a key is ignored", stacklevel=2)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=2)
        warnings.warn("later", FutureWarning, stacklevel=2)
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.run(body) == 0
    assert capsys.readouterr().err == "warning: a key is ignored\n"


def test_a_command_leaves_signals_and_warnings_as_it_found_them() -> None:
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), warnings.showwarning)
    cli.run(lambda: 0)
    raises(ConfigError("x"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), warnings.showwarning) == before


SCRIPT = """
import os, signal, sys, time
from config import cli, interrupts

def send(number):
    os.kill(os.getpid(), number)

def body():
    try:
        {work}
    finally:
        {tidy}
        print("tidied up", flush=True)

sys.exit(cli.run(body))
"""
DEFERRED = "\n        ".join(
    ["with interrupts.deferred():", "    send(signal.SIGINT)", "    print('whole', flush=True)"]
)


def ended(work: str, tidy: str = "pass") -> tuple[int, str]:
    """Runs a command that signals itself, in a process of its own; returns its exit code and what it printed."""
    arguments = [sys.executable, "-c", SCRIPT.format(work=work, tidy=tidy)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_command_in_order(name: str, code: int) -> None:
    assert ended(f"send(signal.{name}); time.sleep(60)") == (code, "tidied up\n")


def test_a_second_signal_ends_it_at_once() -> None:
    again = "send(signal.SIGTERM); time.sleep(9)"
    assert ended("send(signal.SIGINT); time.sleep(60)", tidy=again) == (143, "")


def test_inside_a_deferred_part_an_interruption_waits_until_its_end() -> None:
    assert ended(DEFERRED + "\n        time.sleep(60)") == (130, "whole\ntidied up\n")
