from __future__ import annotations

import signal
import warnings

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
