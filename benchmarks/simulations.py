"""Simulated searches of a benchmark: one method on one table, and many of them in several processes."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from benchmarks import synthetic
from config.errors import ConfigError
from search.algorithm.scheduler import TrialScheduler
from search.simulate import with_overrides
from search.simulation import foreign_tables
from search.simulation.evaluation import Evaluator
from search.simulation.simulator import CurveTable, SimulatedCluster, Trace, simulate, uniform

TABLES = Path(__file__).parent / "tables"
RECIPES = 3
Task = TypeVar("Task", bound=Hashable)
Result = TypeVar("Result")
PROGRESS_S = 20.0
MAX_LOADED = 8
"""Tables that a process keeps; one of a million configs takes a quarter of a GiB."""

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
"""Our search and its variants, with their overrides of the space file."""


@dataclass(frozen=True)
class SimulationTask:
    """One search: a method on a table, for accuracy against a cost; `budget` is in full trainings.

    The table is one of `benchmarks/tables`, the path of a folder, or a made-up one (`benchmarks.synthetic`). Without a
    cost, it has its own objectives. `overrides` of the space file, and of constants such as
    `search.algorithm.moasha.NAME=1`, apply to a method of ours.
    """

    table: str
    cost: str
    method: str
    workers: int
    run: int
    budget: int
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class SimulationResult:
    """The hypervolume of a search by epochs spent, and how the epochs were spent.

    `epochs_by_outcome` sums the epochs of trials by their last state; `missed` is the last state of each member of the
    true front that was not trained in full.
    """

    task: SimulationTask
    epochs: int
    curve: list[tuple[float, float]]
    false_stops: tuple[int, int]
    busy_share: float
    spent: float
    trials: int
    epochs_by_outcome: dict[str, float]
    missed: dict[int, str]
    cpu_s: float


def run_task(task: SimulationTask) -> SimulationResult:
    """Runs one simulated search."""
    table, evaluator = load(task.table, task.cost)
    started = time.process_time()
    with changed_constants(task.overrides):
        scheduler: Any = make_scheduler(task, table, evaluator)
        trace = simulate(table, scheduler, SimulatedCluster(workers=task.workers), task.budget * table.epochs, task.run)
    epochs: Counter[str] = Counter()
    for event in trace.last().values():
        epochs[f"{event.state} {event.epoch}" if event.state in ("stop", "pause") else event.state] += event.epoch
    return SimulationResult(
        task,
        table.epochs,
        evaluator.curve(trace),
        evaluator.false_stops(trace),
        trace.busy_share,
        trace.spent,
        len(trace.last()),
        dict(epochs),
        missed(evaluator, trace),
        time.process_time() - started,
    )


def is_constant(override: str) -> bool:
    """Returns whether an override names a constant of a module, and not a key of the space file."""
    return override.startswith("search.algorithm.")


@contextmanager
def changed_constants(overrides: Iterable[str]) -> Iterator[None]:
    """Changes constants of modules for a while. Raises ConfigError for one that does not exist."""
    with ExitStack() as stack:
        for name, _, value in (one.partition("=") for one in overrides if is_constant(one)):
            try:
                stack.enter_context(mock.patch(name, ast.literal_eval(value)))
            except (AttributeError, ImportError, SyntaxError, ValueError) as error:
                raise ConfigError(f"{name}={value}: must be a constant and a Python literal ({error})") from None
        yield


def missed(evaluator: Evaluator, trace: Trace) -> dict[int, str]:
    """Returns the last state and epoch of each member of the true front that was not trained in full."""
    complete = {event.config for event in trace.select("complete")}
    last = {event.config: f"{event.state} {event.epoch}" for event in trace.events}
    return {config: last.get(config, "not started") for config in sorted(evaluator.front - complete)}


def make_scheduler(task: SimulationTask, table: CurveTable, evaluator: Evaluator) -> Any:
    """Returns the scheduler of a simulation."""
    from benchmarks.rivals import RIVALS
    from benchmarks.search_peers import PEERS

    if task.method in RIVALS:
        return RIVALS[task.method](table, task.run)
    if task.method in PEERS:
        return PEERS[task.method](table, task.run)
    settings = [one for one in task.overrides if not is_constant(one)]
    budget = f"budget.epochs_total={task.budget * table.epochs}"
    space = with_overrides(table.space, [*OURS[task.method], *settings, f"seed={task.run}", budget])
    scheduler = TrialScheduler(space, space.feasible_config)
    if "recipes" in task.method:
        configs = [table.configs[config] for config in recipes(evaluator, "good" in task.method)]
        scheduler.load_state({"start_with": [("recipe", dict(config)) for config in configs]})
    return scheduler


def recipes(evaluator: Evaluator, is_good: bool) -> list[int]:
    """Returns three configs of the best or of the worst tenth by contribution to the hypervolume, always the same."""
    configs = ranked(evaluator)
    tenth = max(RECIPES, len(configs) // 10)
    chosen = configs[:tenth] if is_good else configs[-tenth:]
    return sorted(chosen, key=lambda config: uniform("recipe", is_good, config))[:RECIPES]


def ranked(evaluator: Evaluator) -> list[int]:
    """Returns the configs that have points, best first: by front, then by their contribution to its hypervolume."""
    remaining = [index for index, points in enumerate(evaluator.points) if len(points)]
    found: list[int] = []
    while remaining:
        front = evaluator.non_dominated(remaining)
        volume = evaluator.volume(front)
        found += sorted(front, key=lambda index: (evaluator.volume(front - {index}) - volume, index))
        remaining = [index for index in remaining if index not in front]
    return found


@lru_cache(maxsize=MAX_LOADED)
def load(name: str, cost: str) -> tuple[CurveTable, Evaluator]:
    """Returns a table, with accuracy and a cost as objectives unless the cost is empty, and its evaluator."""
    from tests.support import synthetic_curves

    table: Any
    if name == "synthetic":
        table = synthetic_curves.make_table()
    else:
        table = synthetic.load(name) if synthetic.is_name(name) else foreign_tables.load_table(TABLES / name)
    if cost:
        overrides = [f"objectives={{accuracy: maximize, {cost}: minimize}}"]
        table = replace(table, space=with_overrides(table.space, overrides))
    return table, Evaluator(table)


def run_parallel(body: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> dict[Task, Result]:
    """Returns the result of `body` for each task, from several processes; prints the progress every 20 s."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a process starts
    found: dict[Task, Result] = {}
    started = shown = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_initialize) as pool:
        futures = {pool.submit(body, task): task for task in tasks}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            if time.monotonic() - shown > PROGRESS_S:
                shown = time.monotonic()
                left = (shown - started) / len(found) * (len(tasks) - len(found))
                print(f"{len(found)} of {len(tasks)}, about {left:.0f} s left", file=sys.stderr, flush=True)
    return found


def _initialize() -> None:
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    os.nice(5)
