"""Regression guard of the search, a small `search_quality`: `python -m benchmarks.search_baseline --json FILE`.

Our search alone, on one table, with a budget of 50 trainings: hypervolumes after 24 and 50, and the epochs to the final
hypervolume of random search. A slow test compares with `search_baseline.json`; a deliberate change updates it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import robust
from benchmarks.report import write
from benchmarks.simulations import SimulationTask, run_parallel, run_task

BASELINE = Path(__file__).with_suffix(".json")
TABLE, COST, WORKERS, REPEATS = "digits", "spike_rate", 8, 4
BUDGET, RIVALS_BUDGET = 50, 100


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_baseline", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args(argv)
    write(measure(arguments.jobs), arguments.json)


def measure(jobs: int) -> dict[str, Any]:
    """Returns the hypervolumes after 24 and 50 trainings, and the epochs to that of random search after 100."""
    ours = [SimulationTask(TABLE, COST, "ours", WORKERS, run, BUDGET) for run in range(REPEATS)]
    rival = [SimulationTask(TABLE, COST, "random", WORKERS, run, RIVALS_BUDGET) for run in range(REPEATS)]
    found = run_parallel(run_task, [*ours, *rival], jobs)
    epochs = found[ours[0]].epochs
    grid = np.arange(0.0, RIVALS_BUDGET * epochs + 1, epochs / 9)
    mean = robust.iqm(robust.matrix([found[task].curve for task in ours], grid))
    target = float(robust.iqm(robust.matrix([found[task].curve for task in rival], grid))[-1])
    return {
        "hypervolume_24": float(mean[np.searchsorted(grid, 24 * epochs)]),
        "hypervolume_50": float(mean[np.searchsorted(grid, BUDGET * epochs)]),
        "epochs_to_random": robust.first(mean, grid, target) or BUDGET * epochs,
    }


if __name__ == "__main__":
    main()
