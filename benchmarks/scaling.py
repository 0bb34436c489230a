"""How busy workers are when there are many, the budget growing with them: `python -m benchmarks.scaling`.

Four full trainings a worker, or `--trainings`, on made-up curves of 61 440 configs, because recorded tables run out;
random sampling, as this asks how trials are shared out and not which come next. Beside each stands one worker with the
same budget.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.plays import spread
from benchmarks.report import write
from search.algorithm.scheduler import TrialScheduler
from search.simulate import changed
from search.simulation.evaluation import Evaluator
from search.simulation.simulator import SimulatedCluster, simulate
from tests.support import synthetic_curves

WORKERS = (64, 256, 1000)
TRAININGS_A_WORKER = 4
LEVELS = 64
REFERENCE = (-10.0, -0.5)
"""Chance, and the logarithm of a spike rate that no made-up config has."""


def main(argv: Sequence[str] | None = None) -> None:
    """Simulates and prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--trainings", type=int, default=TRAININGS_A_WORKER, help="full trainings a worker")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args(argv)
    write(scaling(arguments.jobs, arguments.workers, arguments.trainings), arguments.json)


def scaling(jobs: int, workers: Sequence[int] = WORKERS, trainings: int = TRAININGS_A_WORKER) -> dict[str, Any]:
    """Returns, by number of workers, the busy share, and the hypervolume over one worker's with the same budget."""
    tasks = [(count, together * trainings) for together in workers for count in (together, 1)]
    found = spread(run, tasks, jobs)
    figures = {}
    for together in workers:
        many, one = found[together, together * trainings], found[1, together * trainings]
        ratio = many["hypervolume"] / one["hypervolume"]
        figures[str(together)] = {
            "busy_share": many["busy_share"],
            "hypervolume_ratio": ratio,
            "trials": many["trials"],
        }
    return {**figures, "trainings_a_worker": trainings}


def run(task: tuple[int, int]) -> dict[str, float]:
    """Returns the figures of so many workers, with a budget of so many full trainings."""
    count, trainings = task
    table = synthetic_curves.make_table(LEVELS)
    budget = trainings * table.epochs
    policy = TrialScheduler(changed(table.space, ["sampler.name=random", f"budget.epochs_total={budget}"]))
    trace = simulate(table, policy, SimulatedCluster(workers=count), budget)
    complete = {event.config for event in trace.select("complete")}
    hypervolume = Evaluator(table, reference=REFERENCE).volume(complete)
    return {"busy_share": trace.busy_share, "hypervolume": hypervolume, "trials": len(trace.last())}


if __name__ == "__main__":
    main()
