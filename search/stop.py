"""Ends a search, which can go on later, or one trial: `python -m search.stop runs/quickstart [--trial 31]`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from config import cli
from config.cli import add_folder
from config.errors import ConfigError
from results.folder import check_study

END_S = 30.0
"""Seconds that a driver may take to end; its trials stop in the middle of their epoch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input, 4 the driver gave no answer)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.stop", description=__doc__)
    add_folder(parser)
    parser.add_argument("--trial", type=int, metavar="N", help="end this trial only, as stopped; the search goes on")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    check_study(folder)
    if arguments.trial is not None:
        _check_trial(folder, arguments.trial)
    from search.storage import lock, requests

    if arguments.trial is not None:
        print(sent(folder, requests.ControlRequest("stop_trial", trial=arguments.trial)))
        return cli.OK
    if lock.holder(folder) is None:
        raise ConfigError(f"{folder}: no search runs there, so there is nothing to stop")
    path = requests.send(folder, requests.ControlRequest("stop"))
    deadline = time.monotonic() + END_S
    while lock.holder(folder) is not None:
        if time.monotonic() > deadline:
            text = f"{folder}: {lock.holder(folder)} has not ended within {END_S:.0f} s; it ends when it comes to it"
            raise cli.CommandError(cli.ENVIRONMENT, text)
        time.sleep(0.1)
    path.unlink(missing_ok=True)
    path.with_suffix(".answer").unlink(missing_ok=True)
    print(f"the search in {folder} has ended; the command that started it goes on with it")
    return cli.OK


def _check_trial(folder: Path, number: int) -> None:
    """Raises ConfigError where the study has no such trial."""
    import results
    from results.metrics import ResultsError

    try:
        results.load(folder).trial(number)
    except ResultsError as error:
        raise ConfigError(f"--trial {number}: {error}") from None


def sent(folder: Path, order: object) -> str:
    """Sends an order to the driver that runs, and returns what to tell the user of it."""
    from search.storage import lock, requests

    assert isinstance(order, requests.ControlRequest)
    path = requests.send(folder, order)
    if lock.holder(folder) is None:
        return "no search runs there; it is taken when the study is started again"
    answer = requests.wait_for_reply(path)
    return answer or "no answer yet; the driver takes it when it comes to it"


if __name__ == "__main__":
    sys.exit(main())
