"""Quality of the search against its rivals: `python -m benchmarks.search_quality --json FILE`.

Our search and its rivals run on the recorded tables, and their hypervolumes are compared by epochs spent. A speed-up is
the epochs that a rival spends to its final hypervolume after 100 full trainings, over those that our search spends to
reach it, on the interquartile means of the repeats. Our search has a budget of 100; if that is too small, it runs again
with 300 (not with `--quick`, which takes less than two minutes). Intervals are 95 % bootstraps. Regrets are those of
searches with budgets of 24, 50 and 100 trainings. A table's figures are for accuracy against spike rate at 8 workers;
`pairs` also has those at 1 and 64 workers (a third of the repeats), and for accuracy against synops. Top-level figures
are medians over the tables.

`--tables FOLDER...` compares policies on tables of any keys and objectives instead: the share of the true front's
hypervolume after 6, 12, 24, 50 and 100 full trainings, up to `--budget`, and the mean ranks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import table_shares
from benchmarks.quality_figures import ABLATIONS, BUDGETS, ENDS, HEADLINE, LONGEST, cpu_seconds, pair_figures
from benchmarks.report import machine, write
from benchmarks.rivals import RIVALS
from benchmarks.scaling import scaling
from benchmarks.search_peers import PEERS
from benchmarks.simulations import OURS, TABLES, SimulationResult, SimulationTask, run_parallel, run_task
from benchmarks.table_shares import POLICIES
from config.errors import ConfigError
from config.files import write_atomic
from search.simulation import recorded_curves

COSTS = ("spike_rate", "synops")
OTHERS = ("random_unrepeated", "sobol", "scalarised_asha", "moasha_tpe", "moasha_syne_tune", "optunahub_pruner")
WITH_RECIPES = ("ours_good_recipes", "ours_bad_recipes")
WORKERS = (8, 1, 64)
GP_SHARE = 0.1
"""Share of the repeats; Optuna's GP takes minutes per search."""
SLOWEST, FEW = ("gp", "ray_optuna_asha"), 4
"""Slowest rivals, and the number of repeats below which they run half as often."""
PARTS = ("synops", "workers", "others", "gp", "ablations", "recipes", "scaling")
NUM_BOOTSTRAPS = 1000


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the searches, prints the figures, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="only the top-level figures, from fewer repeats")
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="further figures (default: all)")
    parser.add_argument("--repeats", type=int, help="repeats of each search (default 30, quick 2)")
    parser.add_argument("--tables", nargs="+", help="names of tables in benchmarks/tables (default: all), or folders")
    parser.add_argument("--workers", type=int, default=WORKERS[0], help="simulated workers, for folders (default 8)")
    parser.add_argument("--budget", type=int, default=ENDS, help="full trainings per search, for folders (default 100)")
    parser.add_argument(
        "--policies", nargs="+", choices=[*OURS, *RIVALS, *PEERS], default=POLICIES, help="searches, for folders"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args(argv)
    names = arguments.tables or sorted(path.parent.name for path in TABLES.glob(f"*/{recorded_curves.CURVES_FILE}"))
    repeats = arguments.repeats or (2 if arguments.quick else 30)
    if any(map(os.path.isdir, names)):
        compare_on_folders(parser, arguments, repeats)
        return
    started = time.monotonic()
    parts = () if arguments.quick else PARTS if arguments.parts is None else arguments.parts
    figures = measure(names, repeats, arguments.jobs, parts)
    figures["details"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write(figures, arguments.json)


def compare_on_folders(parser: argparse.ArgumentParser, arguments: argparse.Namespace, repeats: int) -> None:
    """Prints the shares that the policies reach on tables given by their folders, and writes them if asked."""
    folders = [path if path.is_dir() else TABLES / path for path in map(Path, arguments.tables)]
    try:
        figures = table_shares.measure(
            folders, arguments.policies, repeats, arguments.workers, arguments.budget, arguments.jobs
        )
    except ConfigError as error:
        parser.error(str(error))
    print(table_shares.format_figures(figures))
    if arguments.json is not None:
        write_atomic(arguments.json, json.dumps(figures, indent=2) + "\n")


def measure(names: Sequence[str], repeats: int, jobs: int, parts: Collection[str]) -> dict[str, Any]:
    """Returns the top-level figures of these tables, and the further ones named by `parts`."""
    tasks = [task for name in names for task in plan(name, repeats, parts)]
    results = list(run_parallel(run_task, tasks, jobs).values())
    if parts:
        results += run_parallel(run_task, longer(results), jobs).values()
    by_table = {name: [result for result in results if result.task.table == name] for name in names}
    tables = {name: table_figures(found, NUM_BOOTSTRAPS) for name, found in by_table.items()}
    first = next(iter(tables.values()))
    top = {
        key: statistics.median(table[key] for table in tables.values())
        for key, value in first.items()
        if isinstance(value, float)
    }
    details: dict[str, Any] = {
        "repeats": repeats,
        "parts": list(parts),
        "runs": "runs 0 to repeats - 1 seed all chance; the same for all policies",
        "cpu_s": cpu_seconds(results),
        "machine": machine() | {name: version(name) for name in ("optuna", "scipy", "numpy")},
    }
    if "scaling" in parts:
        details["scaling"] = scaling(jobs)
    return {**top, "tables": tables, "details": details}


def plan(name: str, repeats: int, parts: Collection[str] = PARTS) -> list[SimulationTask]:
    """Returns the searches on a table, the slowest methods first; they run half as often in few repeats."""

    def add(method: str, runs: int, cost: str = COSTS[0], workers: int = WORKERS[0], budget: int = ENDS) -> None:
        found.extend(SimulationTask(name, cost, method, workers, run, budget) for run in range(runs))

    found: list[SimulationTask] = []
    for cost in COSTS if "synops" in parts else COSTS[:1]:
        for workers in WORKERS if "workers" in parts and cost == COSTS[0] else WORKERS[:1]:
            runs = repeats if workers == WORKERS[0] else max(repeats // 3, 1)
            for rival in HEADLINE + OTHERS if "others" in parts and workers == WORKERS[0] else HEADLINE:
                add(rival, runs, cost, workers)
            for budget in BUDGETS:
                add("ours", runs, cost, workers, budget)
    extra = {"gp": ("gp",), "ablations": ABLATIONS, "recipes": WITH_RECIPES}
    share = {"gp": GP_SHARE, "ablations": 0.5, "recipes": 1.0}
    for part in [part for part in extra if part in parts]:
        for method in extra[part]:
            add(method, math.ceil(repeats * share[part]))
    if repeats < FEW:
        found = [task for task in found if task.method not in SLOWEST or task.run < max(repeats // 2, 1)]
    return sorted(found, key=lambda task: task.method not in SLOWEST)


def longer(results: Sequence[SimulationResult]) -> list[SimulationTask]:
    """Returns searches of ours with the largest budget, where one of 100 does not reach the rivals' hypervolume."""
    pairs: dict[tuple[str, str, int], list[SimulationResult]] = {}
    for result in results:
        pairs.setdefault((result.task.table, result.task.cost, result.task.workers), []).append(result)
    found: list[SimulationTask] = []
    for chosen in pairs.values():
        speedups = pair_figures(chosen, 1)["speedups"]
        if any(speedups[rival]["is_bound"] for rival in HEADLINE):
            ours = [one.task for one in chosen if (one.task.method, one.task.budget) == ("ours", ENDS)]
            found += [replace(task, budget=LONGEST) for task in ours]
    return found


def table_figures(results: Sequence[SimulationResult], num_bootstraps: int) -> dict[str, Any]:
    """Returns a table's own figures, and those of each pair of objectives and number of workers."""
    pairs: dict[str, Any] = {}
    for cost in COSTS:
        for workers in WORKERS:
            chosen = [result for result in results if (result.task.cost, result.task.workers) == (cost, workers)]
            if chosen:
                pairs.setdefault(f"accuracy/{cost}", {})[f"{workers} workers"] = pair_figures(chosen, num_bootstraps)
    own = pairs[f"accuracy/{COSTS[0]}"][f"{WORKERS[0]} workers"]
    top = {f"speedup_vs_{rival}": own["speedups"][rival]["value"] for rival in HEADLINE}
    top |= {f"regret_{budget}": own["regrets"][str(budget)]["value"] for budget in BUDGETS}
    return {**top, "false_stop_rate": own["false_stop_rate"], **own.get("recipes", {}), "pairs": pairs}


if __name__ == "__main__":
    main()
