"""Shows a search, running or ended, from another terminal: `python -m search.status runs/quickstart --watch`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from config import cli
from config.cli import add_folder
from config.errors import ConfigError

if TYPE_CHECKING:
    from search.display.dashboard import Dashboard


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.status", description=__doc__)
    add_folder(parser)
    parser.add_argument("--watch", action="store_true", help="show it anew until the search ends or Ctrl-C")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="how often, with --watch (2)")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from search.display import dashboard

    if not 0.5 <= arguments.every <= LONGEST_S:
        raise ConfigError(f"--every: must be a number from 0.5 to {LONGEST_S:.0f} (got {arguments.every:g})")
    console = Console(file=sys.stdout, highlight=False)
    shown = look(arguments.folder)
    if not arguments.watch:
        console.print(dashboard.render(shown))
        return cli.OK
    with Live(dashboard.render(shown), console=console, auto_refresh=False) as live:
        while shown.slots is not None or shown.driver != NOBODY:
            time.sleep(arguments.every)
            shown = look(arguments.folder)
            live.update(dashboard.render(shown), refresh=True)
    return cli.OK


LONGEST_S = 3600.0
NOBODY = "none; the command that started the search goes on with it"


def look(folder: Path) -> Dashboard:
    """Returns the study in a folder as it stands, without writing anything."""
    import results
    from results.metrics import ResultsError
    from search.display.dashboard import Dashboard, budget_of, hypervolume_history
    from search.storage import lock

    try:
        result = results.load(folder)
    except ResultsError as error:
        raise ConfigError(str(error)) from None
    driver = lock.holder(folder)
    elapsed = 3600 * float(result.attrs.get("hours", 0.0))
    if driver is not None:
        elapsed = elapsed if driver.hours_before is None else 3600 * driver.hours_before
        elapsed += max((datetime.now() - datetime.fromisoformat(driver.since)).total_seconds(), 0.0)
    return Dashboard(
        result,
        elapsed,
        hypervolume_history(result, _order(folder)),
        driver.slots if driver is not None else None,
        NOBODY if driver is None else str(driver),
        budget_of(result),
    )


def _order(folder: Path) -> list[int]:
    """Returns the trials in the order in which they ended, from the log of decisions."""
    path = folder / "events.jsonl"
    found: dict[int, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            break  # the driver is writing it
        if event["event"] in ("finish", "fail"):
            found[int(event["trial"])] = None
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
