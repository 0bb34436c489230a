from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from config import cli, interrupts
from config.errors import ConfigError


def exit_code(error: BaseException) -> int:
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
def test_a_user_error_prints_one_sentence_and_gives_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    assert exit_code(error) == code
    assert capsys.readouterr() == ("", f"{error}\n")


def test_another_exception_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(ZeroDivisionError())


def test_an_interruption_gives_the_code_of_its_signal() -> None:
    assert exit_code(interrupts.Interrupted(signal.SIGINT)) == 130
    assert exit_code(interrupts.Interrupted(signal.SIGTERM)) == 143


ROOT = Path(__file__).parents[2]
PRINTS = "print('line\\n' * 100_000)"
RICH = "from rich.console import Console; console = Console(); [console.print('line') for _ in range(30_000)]"
MANY_ERRORS = "raise ConfigError('wrong\\n' * 100_000)"


def piped(code: str, *arguments: str, stderr: int | None = subprocess.PIPE) -> tuple[int, str]:
    """Runs a command whose reader goes after one byte. Returns its exit code and what it wrote to stderr."""
    command = [sys.executable, *(("-c", code) if code else ()), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        text = process.stderr.read() if process.stderr is not None else ""
    return process.returncode, text


@pytest.mark.parametrize("body", [PRINTS, f"{PRINTS}; raise ConfigError('no')", RICH], ids=["print", "error", "rich"])
def test_a_command_whose_reader_has_gone_ends_quietly(body: str) -> None:
    code = f"import sys\nfrom config import cli\nfrom config.errors import ConfigError\ndef body():\n    {body}\n"
    assert piped(f"{code}    return 0\nsys.exit(cli.run(body))") == (cli.OUTPUT_CLOSED, "")


def test_a_command_whose_errors_are_not_read_ends_quietly() -> None:
    code = (
        f"import sys\nfrom config import cli\nfrom config.errors import ConfigError\ndef body():\n    {MANY_ERRORS}\n"
    )
    assert piped(f"{code}sys.exit(cli.run(body))", stderr=subprocess.STDOUT) == (cli.OUTPUT_CLOSED, "")


def test_a_help_text_whose_reader_has_gone_ends_quietly() -> None:
    code = "from config import cli\nparser = cli.Parser(epilog='x ' * 100_000)\nparser.parse_args(['--help'])"
    assert piped(code) == (cli.OUTPUT_CLOSED, "")


def test_a_broken_connection_is_an_error_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(BrokenPipeError(32, "Broken pipe")) == cli.ENVIRONMENT
    assert "Broken pipe" in capsys.readouterr().err


def test_user_warnings_are_plain_sentences_and_warnings_for_developers_are_hidden(
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


def test_a_command_restores_signal_handlers_and_warnings() -> None:
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), warnings.showwarning)
    cli.run(lambda: 0)
    exit_code(ConfigError("x"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), warnings.showwarning) == before
