"""Shows a search, running or ended, from another terminal: `python -m search.status runs/quickstart --watch`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live

import results
from config import cli
from config.errors import ConfigError
from results.folder import SPACE_FILE
from search.display.dashboard import NO_DRIVER, Dashboard, hypervolume_history, render, waiting_trials
from search.storage import event_log, lock

MAX_INTERVAL_S = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    parser = cli.Parser(prog="python -m search.status", description=__doc__)
    cli.add_folder(parser)
    parser.add_argument("--watch", action="store_true", help="refresh it until the search ends or Ctrl-C")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="interval of --watch (2)")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    if not 0.5 <= arguments.every <= MAX_INTERVAL_S:
        raise ConfigError(f"--every: must be a number from 0.5 to {MAX_INTERVAL_S:.0f} (got {arguments.every:g})")
    console = Console(file=sys.stdout, highlight=False)
    shown = snapshot(arguments.folder)
    if not arguments.watch:
        console.print(render(shown))
    else:
        with Live(render(shown), console=console, auto_refresh=False) as live:
            while shown.driver != NO_DRIVER:
                time.sleep(arguments.every)
                shown = snapshot(arguments.folder)
                live.update(render(shown), refresh=True)
    waiting = waiting_trials(shown.result, finish_command(arguments.folder)) if shown.driver == NO_DRIVER else None
    if waiting is not None:
        print(waiting)
    return cli.OK


def finish_command(folder: Path) -> str:
    """Returns the command that trains the trials of the first fronts of a study to the end."""
    out = "" if folder.parent == Path("runs") else f" --out {shlex.quote(str(folder.parent))}"
    return f"python -m search.run {shlex.quote(str(folder / SPACE_FILE))}{out} --finish"


def snapshot(folder: Path) -> Dashboard:
    """Returns the current state of the study in a folder without writing anything."""
    result = results.load(folder)
    hypervolumes = hypervolume_history(result, event_log.ended_trials(folder / event_log.NAME))
    elapsed_s = 3600 * float(result.attrs.get("hours", 0.0))
    if (driver := lock.holder(folder)) is None:
        return Dashboard(result, elapsed_s, hypervolumes, driver=NO_DRIVER)
    if driver.hours_before is not None:
        elapsed_s = 3600 * driver.hours_before
    elapsed_s += max((datetime.now() - datetime.fromisoformat(driver.since)).total_seconds(), 0.0)
    return Dashboard(result, elapsed_s, hypervolumes, driver.slots, str(driver), driver.batches)


if __name__ == "__main__":
    sys.exit(main())
