"""Utilisation of many workers, the budget growing with them: `python -m benchmarks.scaling`.

Four full trainings per worker, or `--trainings`, on synthetic curves of 61 440 configs, as recorded tables are too
small. Sampling is random, since the question is how trials are distributed, not which are suggested. Each is compared
with one worker of the same budget.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report import write
from benchmarks.simulations import run_parallel
from results.pareto import hypervolume
from search.algorithm.scheduler import TrialScheduler
from search.simulate import with_overrides
from search.simulation.evaluation import Evaluator
from search.simulation.simulator import SimulatedCluster, simulate
from tests.support import synthetic_curves

WORKERS = (64, 256, 1000)
TRAININGS_PER_WORKER = 4
LEVELS = 64
REFERENCE = (-10.0, -0.5)
"""Chance, and the logarithm of a spike rate that no synthetic config has."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the simulations, and prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--trainings", type=int, default=TRAININGS_PER_WORKER, help="full trainings per worker")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args(argv)
    write(scaling(arguments.jobs, arguments.workers, arguments.trainings), arguments.json)


def scaling(jobs: int, workers: Sequence[int] = WORKERS, trainings: int = TRAININGS_PER_WORKER) -> dict[str, Any]:
    """Returns, by number of workers, the busy share, and the hypervolume over one worker's with the same budget."""
    found = run_parallel(run, [(count, number * trainings) for number in workers for count in (number, 1)], jobs)
    figures: dict[str, Any] = {}
    for number in workers:
        many, one = found[number, number * trainings], found[1, number * trainings]
        ratio = many["hypervolume"] / one["hypervolume"]
        figures[str(number)] = {
            "busy_share": many["busy_share"],
            "hypervolume_ratio": ratio,
            "trials": many["trials"],
        }
    return {**figures, "trainings_a_worker": trainings}


def run(task: tuple[int, int]) -> dict[str, float]:
    """Returns the figures of a task (number of workers, budget in full trainings)."""
    count, trainings = task
    table = synthetic_curves.make_table(LEVELS)
    budget = trainings * table.epochs
    space = with_overrides(table.space, ["sampler.name=random", f"budget.epochs_total={budget}"])
    trace = simulate(table, TrialScheduler(space, space.feasible_config), SimulatedCluster(workers=count), budget)
    complete = {event.config for event in trace.select("complete")}
    evaluator = Evaluator(table)
    points = np.concatenate([evaluator.true_points(config) for config in complete])
    volume = hypervolume(points, REFERENCE)  # that of the evaluator would take the points of all configs
    return {"busy_share": trace.busy_share, "hypervolume": volume, "trials": len(trace.last())}


if __name__ == "__main__":
    main()
