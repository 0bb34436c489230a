"""How busy workers are when there are many, the budget growing with them: `python -m benchmarks.scaling`.

Four full trainings a worker, on made-up curves of 24 000 configs, because recorded tables run out; random sampling, as
this asks how trials are shared out and not which come next. Beside each stands one worker with the same budget.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from benchmarks import synthetic
from benchmarks.plays import spread
from search.policy import Policy
from search.scoring import Judge
from search.simulate import changed
from search.simulator import World, simulate

WORKERS = (64, 256, 1000)
TRAININGS_A_WORKER = 4
LEVELS = 40
REFERENCE = (-10.0, -0.5)
"""Chance, and the logarithm of a spike rate that no made-up config has."""


def main(argv: Sequence[str] | None = None) -> None:
    """Simulates and prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args(argv)
    print(json.dumps(scaling(arguments.jobs, arguments.workers), indent=1))


def scaling(jobs: int, workers: Sequence[int] = WORKERS) -> dict[str, Any]:
    """Returns, by number of workers, the busy share, and the hypervolume over one worker's with the same budget."""
    tasks = [(count, together) for together in workers for count in (together, 1)]
    found = spread(run, tasks, jobs)
    return {
        str(together): {
            "busy_share": found[together, together]["busy_share"],
            "hypervolume_ratio": found[together, together]["hypervolume"] / found[1, together]["hypervolume"],
            "trials": found[together, together]["trials"],
        }
        for together in workers
    }


def run(task: tuple[int, int]) -> dict[str, float]:
    """Returns the figures of so many workers, with the budget of another number of them."""
    count, together = task
    table = synthetic.make_table(LEVELS)
    budget = together * TRAININGS_A_WORKER * table.epochs
    policy = Policy(changed(table.space, ["sampler.name=random", f"budget.epochs_total={budget}"]))
    trace = simulate(table, policy, World(workers=count), budget)
    complete = {event.config for event in trace.select("complete")}
    hypervolume = Judge(table, reference=REFERENCE).volume(complete)
    return {"busy_share": trace.busy_share, "hypervolume": hypervolume, "trials": len(trace.last())}


if __name__ == "__main__":
    main()
