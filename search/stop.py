"""Stops a search, which can resume later, or one trial: `python -m search.stop runs/quickstart [--trial t0031]`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import results
from config import cli
from config.errors import ConfigError
from results.folder import check_study
from results.picks import parse_trial
from search.storage import lock, requests
from search.storage.requests import ControlRequest

STOP_S = 30.0
"""Seconds that a driver may take to stop; its trials stop within their epoch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input, 4 the driver did not stop)."""
    parser = cli.Parser(prog="python -m search.stop", description=__doc__)
    cli.add_folder(parser)
    parser.add_argument("--trial", metavar="N", help="stop only this trial (31 or t0031); the search continues")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments.folder, arguments.trial))


def _main(folder: Path, name: str | None) -> int:
    if name is not None:
        return _stop_trial(folder, name)
    check_study(folder)
    _stop_search(folder)
    print(f"the search in {folder} has stopped; the command that started it resumes it")
    return cli.OK


def _stop_trial(folder: Path, name: str) -> int:
    try:
        trial = parse_trial(name)
        check_study(folder)
        results.load(folder).trial(trial)
    except ConfigError as error:
        raise ConfigError(f"--trial {name}: {error}") from None
    print(requests.send_and_wait(folder, ControlRequest("stop_trial", trial=trial)))
    return cli.OK


def _stop_search(folder: Path) -> None:
    """Returns after the driver has stopped."""
    if lock.holder(folder) is None:
        raise ConfigError(f"{folder}: no search runs there, so there is nothing to stop")
    path = requests.send(folder, ControlRequest("stop"))
    deadline = time.monotonic() + STOP_S
    while (driver := lock.holder(folder)) is not None:
        if time.monotonic() > deadline:
            text = f"{folder}: {driver} has not stopped within {STOP_S:.0f} s; it stops as soon as it reads the request"
            raise cli.CommandError(cli.ENVIRONMENT, text)
        time.sleep(0.1)
    path.unlink(missing_ok=True)
    requests.wait_for_reply(path, timeout_s=0.0)


if __name__ == "__main__":
    sys.exit(main())
