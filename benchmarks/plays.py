"""One play: a policy searches a table once, in the simulator; and many plays on several processes."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from search.algorithm.scheduler import TrialScheduler
from search.simulate import changed
from search.simulation.evaluation import CurveTable, Evaluator
from search.simulation.simulator import SimulatedCluster, simulate, uniform

TABLES = Path(__file__).parent / "tables"
RECIPES = 3
Task = TypeVar("Task", bound=Hashable)
Found = TypeVar("Found")
PROGRESS_S = 20.0

OURS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours_stop": ("scheduler.mode=stop",),
    "ours_random": ("sampler.name=random",),
    "ours_nsga2": ("sampler.name=nsga2",),
    "ours_margin": ("scheduler.noise_margin=0.05",),
    "ours_brackets": ("scheduler.brackets=2",),
    "ours_good_recipes": (),
    "ours_bad_recipes": (),
}
"""Our policy and its variants: the keys of the space file that each changes."""


@dataclass(frozen=True)
class Play:
    """Which policy searches which table for accuracy and which cost; `trainings` is the budget it is told."""

    table: str
    cost: str
    policy: str
    workers: int
    run: int
    trainings: int


@dataclass(frozen=True)
class Played:
    """What came of a play: the hypervolume's steps by epochs spent, and how the epochs were spent.

    `fates` are the epochs of trials by what became of them; `missed` says of each member of the true front that was not
    trained in full how far it came.
    """

    play: Play
    epochs: int
    curve: list[tuple[float, float]]
    false_stops: tuple[int, int]
    busy_share: float
    spent: float
    trials: int
    fates: dict[str, float]
    missed: dict[int, str]
    cpu_s: float


def play(task: Play) -> Played:
    """Plays once."""
    table, judge = load(task.table, task.cost)
    started = time.process_time()
    policy: Any = make(task, table, judge)
    trace = simulate(table, policy, SimulatedCluster(workers=task.workers), task.trainings * table.epochs, task.run)
    fates: Counter[str] = Counter()
    for event in trace.last().values():
        fates[f"{event.state} {event.epoch}" if event.state in ("stop", "pause") else event.state] += event.epoch
    return Played(
        task,
        table.epochs,
        judge.curve(trace),
        judge.false_stops(trace),
        trace.busy_share,
        trace.spent,
        len(trace.last()),
        dict(fates),
        judge.missed(trace),
        time.process_time() - started,
    )


def make(task: Play, table: CurveTable, judge: Evaluator) -> Any:
    """Returns the policy of a play."""
    from benchmarks.rivals import RIVALS

    if task.policy in RIVALS:
        return RIVALS[task.policy](table, task.run)
    overrides = [*OURS[task.policy], f"seed={task.run}", f"budget.epochs_total={task.trainings * table.epochs}"]
    policy = TrialScheduler(changed(table.space, overrides))
    if "recipes" in task.policy:
        policy.candidates.initial = [
            ("recipe", dict(table.configs[config])) for config in recipes(judge, "good" in task.policy)
        ]
    return policy


def recipes(judge: Evaluator, is_good: bool) -> list[int]:
    """Returns three configs of the best or of the worst tenth by what they add to the hypervolume, always the same."""
    ranked = judge.ranked()
    tenth = max(RECIPES, len(ranked) // 10)
    chosen = ranked[:tenth] if is_good else ranked[-tenth:]
    return sorted(chosen, key=lambda config: uniform("recipe", is_good, config))[:RECIPES]


@cache
def load(name: str, cost: str) -> tuple[CurveTable, Evaluator]:
    """Returns a table with the objectives of a play, and its judge."""
    from search.simulation import recorded_curves
    from tests.support import synthetic_curves

    table: Any = synthetic_curves.make_table() if name == "synthetic" else recorded_curves.load(TABLES / name)
    table = replace(table, space=changed(table.space, [f"objectives={{accuracy: maximize, {cost}: minimize}}"]))
    return table, Evaluator(table)


def spread(body: Callable[[Task], Found], tasks: Sequence[Task], jobs: int) -> dict[Task, Found]:
    """Returns what `body` makes of each task, on several processes, with a line of progress now and then."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a process starts
    found: dict[Task, Found] = {}
    started = shown = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_settle) as pool:
        futures = {pool.submit(body, task): task for task in tasks}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            if time.monotonic() - shown > PROGRESS_S:
                shown = time.monotonic()
                left = (shown - started) / len(found) * (len(tasks) - len(found))
                print(f"{len(found)} of {len(tasks)}, about {left:.0f} s left", file=sys.stderr, flush=True)
    return found


def _settle() -> None:
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    os.nice(5)
