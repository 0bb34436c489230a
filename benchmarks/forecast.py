"""Forecasts of a search against the truth: `python -m benchmarks.forecast --json FILE [SPACE.yml ...]`.

Runs each search (by default that of spaces/quickstart.yml) after its dry run, and follows it as `search.status` does.
`dry_run_ratio` is the time that the dry run forecasts over the true one, `third_ratio` the same for the remaining time
after a third of the search. `--simulated` forecasts simulated searches on the recorded tables instead, which takes
minutes.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import machine, write
from config.document import Document
from config.errors import ConfigError
from config.strict_yaml import override
from search import status
from search.algorithm.forecast import TrialProgress, search_plan, seconds_left
from search.algorithm.scheduler import TrialScheduler
from search.display import dashboard
from search.simulation import recorded_curves
from search.simulation.simulator import Event, SimulatedCluster, Trace, simulate
from search.space import reader

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "spaces" / "quickstart.yml"
TABLES = ROOT / "benchmarks" / "tables"
POLL_S = 3.0
SHARES = (1 / 3, 1 / 2, 2 / 3)
"""Shares of a search's time after which the remaining time is forecast."""
STATES = {"pause": "paused", "stop": "stopped", "complete": "complete", "fail": "failed", "cut": "stopped"}
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("spaces", nargs="*", type=Path, default=[DEFAULT], metavar="SPACE.yml", help="space files")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the space files")
    parser.add_argument("--simulated", action="store_true", help="forecast simulated searches on the recorded tables")
    arguments = parser.parse_args(argv)
    if arguments.simulated:
        write({"machine": machine(), "simulated": simulated()}, arguments.json)
        return
    found = {path.stem: measure(path, arguments.set) for path in arguments.spaces}
    first = next(iter(found.values()))
    names = ("dry_run_s", "dry_run_ratio", "third_ratio")
    write({**{name: first[name] for name in names}, "spaces": found, "machine": machine()}, arguments.json)


def measure(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the figures of one search, which runs in a temporary folder."""
    options = [word for text in overrides for word in ("--set", text)]
    command = [sys.executable, "-m", "search.run", str(path), *options]
    started = time.monotonic()
    printed = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    dry_run_s = time.monotonic() - started
    with tempfile.TemporaryDirectory() as out:
        followed, true_s = follow([*command, "--out", out], Path(out))
    return {
        "dry_run_s": dry_run_s,
        "dry_run_ratio": forecast_s(printed) / true_s,
        "third_ratio": ratio_after(followed, true_s, SHARES[0]),
        "ratios": {f"{share:.2f}": ratio_after(followed, true_s, share) for share in SHARES},
        "true_s": true_s,
        "dry_run": printed.splitlines(),
    }


def follow(command: Sequence[str], out: Path) -> tuple[list[tuple[float, float]], float]:
    """Returns (seconds so far, forecast of the seconds left) at moments of a search, and its true seconds."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    followed: list[tuple[float, float]] = []
    while process.poll() is None:
        time.sleep(POLL_S)
        folder = next((path.parent for path in out.glob("*/study.db")), None)
        if folder is None:
            continue
        try:
            shown = status.snapshot(folder)
        except ConfigError:  # the study is being created
            continue
        if (left_s := dashboard.seconds_left(shown)) is not None:
            followed.append((time.monotonic() - started, left_s))
    if process.returncode:
        raise ConfigError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return followed, time.monotonic() - started


def ratio_after(followed: Sequence[tuple[float, float]], true_s: float, share: float) -> float:
    """Returns the forecast of the time left over the true one, at the first moment after a share of the search."""
    moment, left_s = next(((at, left) for at, left in followed if at >= share * true_s), (0.0, math.nan))
    return left_s / (true_s - moment)


def forecast_s(printed: str) -> float:
    """Returns the time of the search that a dry run printed, in seconds."""
    found = re.search(r"^the search: about .* epochs, ([\d.,]+) (\w+) with ", printed, re.MULTILINE)
    assert found is not None, printed
    return float(found[1].replace(",", "")) * UNITS[found[2]]


def simulated(repeats: int = 2) -> dict[str, dict[str, float]]:
    """Returns the median, lowest and highest ratio after each share of simulated searches, by mode and budget."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    ratios: dict[str, list[float]] = {}
    for table, mode, run in itertools.product(sorted(TABLES.iterdir()), ("promote", "stop"), range(repeats)):
        for budget in ("{{epochs: {0}, trials: 60}}", "{{epochs: {0}, epochs_total: 540}}"):
            for share, ratio in ratios_of(table, mode, budget, run):
                kind = "trials" if "trials" in budget else "epochs_total"
                ratios.setdefault(f"{mode}, {kind}, {share:.2f}", []).append(ratio)
    return {name: {"median": median(r), "lowest": min(r), "highest": max(r)} for name, r in ratios.items()}


def ratios_of(folder: Path, mode: str, budget: str, run: int, workers: int = 8) -> Iterator[tuple[float, float]]:
    """Yields (share, forecast over true remaining time) of one simulated search of a random sampler."""
    table = recorded_curves.load(folder)
    keys = [f"budget={budget.format(table.epochs)}", "sampler.name=random", f"scheduler.mode={mode}", f"seed={run}"]
    space = reader.read(override(Document(table.space.study, dict(table.space.raw)), keys))
    scheduler, total = TrialScheduler(space, space.feasible_config), space.budget.epochs_total or math.inf
    trace = simulate(table, scheduler, SimulatedCluster(workers=workers), total, run)
    plan, end = search_plan(space.settings, space.size()), trace.events[-1].time
    for share in SHARES:
        left_s = seconds_left(plan, progress_at(trace, share * end), share * end, workers)
        assert left_s is not None
        yield share, left_s / ((1.0 - share) * end)


def progress_at(trace: Trace, moment: float) -> list[TrialProgress]:
    """Returns the trials of a simulated search as they were at a moment."""
    by_trial: dict[int, list[Event]] = {}
    for event in trace.events:
        if event.time <= moment:
            by_trial.setdefault(event.trial, []).append(event)
    return [_progress(events, moment) for events in by_trial.values()]


def _progress(events: Sequence[Event], moment: float) -> TrialProgress:
    last = events[-1]
    seconds = sum(after.time - before.time for before, after in itertools.pairwise(events) if before.state != "pause")
    state: Any = STATES.get(last.state, "running")
    if state == "running" and not last.epoch:
        seconds += moment - last.time
    return TrialProgress(float(last.epoch), seconds, state)


if __name__ == "__main__":
    main()
