"""Common parts of all commands: exit codes, one-sentence errors, plain warnings, arguments, interruption."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import select
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from config.errors import ConfigError, did_you_mean
from config.interrupts import Interrupted, signals
from config.uris import redact

OK, BUG, USER, NOTHING_SUCCEEDED, ENVIRONMENT, LOCKED = 0, 1, 2, 3, 4, 5
OUTPUT_CLOSED = 128 + signal.SIGPIPE
"""The reader of the output has gone (`| head`): the code of a program that SIGPIPE ends."""


class CommandError(RuntimeError):
    """A command that cannot succeed: a text for the user, and the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Parser(argparse.ArgumentParser):
    """An argument parser with one-sentence errors, suggestions for misspelt options and shell completion."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns the parsed arguments; ends the process if a shell asks for completions."""
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(_each_set(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        options = [option for action in self._actions for option in action.option_strings]
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message)
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        wrong = re.fullmatch(r"argument (\S+): invalid (int|float) value: (.*)", message)
        if unknown:
            text = f"{unknown[1]}: unknown argument.{did_you_mean(unknown[1].split('=')[0].split()[0], options)}"
        elif missing:
            text = f"{missing[1]}: missing."
        elif wrong:
            kind = {"int": "a whole number", "float": "a number"}[wrong[2]]
            text = f"{wrong[1]}: must be {kind} (got {wrong[3]})."
        else:
            text = message.removeprefix("argument ") + "."
        self.exit(USER, f"{text} See {self.prog} --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the process, quietly if the reader of the help text has gone."""
        if message:
            self._print_message(message, sys.stderr)
        sys.exit(OUTPUT_CLOSED if _discard_output() else status)


def _each_set(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with a `--set` before each `key=value` of several in a row."""
    found: list[str] = []
    for argument in arguments:
        is_pair = "=" in argument and not argument.startswith("-")
        if is_pair and len(found) > 1 and found[-2] == "--set":
            found.append("--set")
        found.append(argument)
    return found


def add_imports(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Adds the option for packages that register models or data sets."""
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="PACKAGE",
                        help=f"a user package that {purpose}")  # fmt: skip


def import_packages(packages: Sequence[str]) -> None:
    """Imports the user's packages, which register models or data sets. Raises ConfigError."""
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise ConfigError(f"--import {package}: must be the name of a package, such as own_model, not a path")
        try:
            importlib.import_module(package)
        except Exception as error:  # the user's code may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"--import {package}: cannot be imported ({reason})") from error


def run(body: Callable[[], int]) -> int:
    """Runs a command and returns its exit code; prints errors that the user can fix without a traceback."""
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        code = _run(body)
        _flush()
        return code
    except BrokenPipeError as error:
        return OUTPUT_CLOSED if _discard_output() else _print_error(error, ENVIRONMENT)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # raised by rich
            return OUTPUT_CLOSED
        raise
    finally:
        warnings.showwarning = shown


def _run(body: Callable[[], int]) -> int:
    try:
        with signals():
            return body()
    except ConfigError as error:
        return _print_error(error, USER)
    except CommandError as error:
        return _print_error(error, error.code)
    except BrokenPipeError:
        raise
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _print_error(text, USER if isinstance(error, _WRONG_TYPE) else ENVIRONMENT)
    except Interrupted as interrupted:
        return interrupted.code


def _flush() -> None:
    """Writes buffered output now: at the end of the process, Python would report a closed pipe on stderr."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _discard_output() -> bool:
    """Redirects the output whose reader has gone to the null device, and returns whether there is any."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
    for stream in closed:
        discard = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discard, stream.fileno())
        os.close(discard)
    return bool(closed)


def _has_no_reader(stream: TextIO) -> bool:
    """Returns whether a stream is a pipe without a reader: such a pipe has an error condition, before any write."""
    try:
        number = stream.fileno()
    except OSError:  # replaced by a stream in memory
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


_WRONG_TYPE = (NotADirectoryError, IsADirectoryError, FileExistsError)
"""A file in place of a folder, or a folder in place of a file."""


def _print_error(error: object, code: int) -> int:
    print(redact(str(error)), file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    if issubclass(category, UserWarning) and not issubclass(category, DeprecationWarning):
        print(f"warning: {redact(str(message))}", file=sys.stderr)


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds the argument for a study's folder."""
    parser.add_argument("folder", type=Path, help="the study's folder, such as runs/quickstart")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the Ray cluster."""
    parser.add_argument("--address", help="address of a running Ray cluster, or auto; by default Ray is started here")
    parser.add_argument("--insecure-cluster", action="store_true", help="join an unauthenticated cluster")
