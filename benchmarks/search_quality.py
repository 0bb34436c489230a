"""How good is the search? `python -m benchmarks.search_quality --json FILE`, in `--quick` form under two minutes.

Plays our policy and its rivals on the recorded tables and compares hypervolumes by epochs spent. A speed-up is the
epochs that a rival spends to reach where it ends after 100 full trainings, over those that ours spends to get there,
on the interquartile means of the repeats; ours may spend 300 (in the quick form 100). Intervals are 95 % bootstraps.
Regrets are those of searches that were told a budget of 24, 50 and 100 trainings. A table's figure is that of its own
objectives at 8 workers; `pairs` hold accuracy against spike rate and against synops, each at 1, 8 and 64 workers. The
figures on top are medians over the tables.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.plays import TABLES, Play, Played, play, spread
from benchmarks.quality_figures import ABLATIONS, BUDGETS, ENDS, HEADLINE, LONGEST, cpu_seconds, pair_figures
from benchmarks.report import machine, write
from benchmarks.scaling import scaling
from search import curves

COSTS = ("spike_rate", "synops")
OTHERS = ("random_unrepeated", "sobol", "scalarised_asha", "moasha_syne_tune")
WITH_RECIPES = ("ours_good_recipes", "ours_bad_recipes")
WORKERS = (8, 1, 64)
GP_EVERY = 10
"""Optuna's GP takes minutes a play: it gets a tenth of the repeats."""


def main(argv: Sequence[str] | None = None) -> None:
    """Plays, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, 8 workers, each table's own objectives")
    parser.add_argument("--repeats", type=int, help="repeats of each play (default 30, quick 2)")
    parser.add_argument("--tables", nargs="+", help="names of tables in benchmarks/tables (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args(argv)
    names = arguments.tables or sorted(path.parent.name for path in TABLES.glob(f"*/{curves.DATA}"))
    repeats = arguments.repeats or (2 if arguments.quick else 30)
    started = time.monotonic()
    figures = measure(names, repeats, arguments.jobs, is_quick=arguments.quick)
    figures["details"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write(figures, arguments.json)


def measure(names: Sequence[str], repeats: int, jobs: int, *, is_quick: bool) -> dict[str, Any]:
    """Returns all figures of these tables."""
    tasks = [task for name in names for task in plan(name, repeats, is_quick=is_quick)]
    played = list(spread(play, tasks, jobs).values())
    draws = 200 if is_quick else 1000
    tables = {name: table_figures([one for one in played if one.play.table == name], draws) for name in names}
    first = next(iter(tables.values()))
    top = {
        key: statistics.median(table[key] for table in tables.values())
        for key, value in first.items()
        if isinstance(value, float)
    }
    details: dict[str, Any] = {
        "repeats": repeats,
        "gp_repeats": 0 if is_quick else math.ceil(repeats / GP_EVERY),
        "runs": "runs 0 to repeats - 1 seed all chance; the same for all policies",
        "cpu_s": cpu_seconds(played),
        "machine": machine() | {name: version(name) for name in ("optuna", "scipy", "numpy")},
    }
    if not is_quick:
        details["scaling"] = scaling(jobs)
    return {**top, "tables": tables, "details": details}


def plan(name: str, repeats: int, *, is_quick: bool) -> list[Play]:
    """Returns the plays of a table; what takes longest comes first."""
    found: list[Play] = []
    for cost in COSTS[:1] if is_quick else COSTS:
        for workers in WORKERS[:1] if is_quick else WORKERS:
            runs = repeats if workers == WORKERS[0] else max(repeats // 3, 1)
            rivals = HEADLINE if is_quick or workers != WORKERS[0] else HEADLINE + OTHERS
            found += [Play(name, cost, rival, workers, run, ENDS) for rival in rivals for run in range(runs)]
            budgets = BUDGETS if is_quick else (*BUDGETS, LONGEST)
            found += [Play(name, cost, "ours", workers, run, budget) for budget in budgets for run in range(runs)]
    if not is_quick:
        cost, workers = COSTS[0], WORKERS[0]
        found += [Play(name, cost, "gp", workers, run, ENDS) for run in range(math.ceil(repeats / GP_EVERY))]
        found += [
            Play(name, cost, variant, workers, run, LONGEST) for variant in ABLATIONS for run in range(repeats // 2)
        ]
        found += [
            Play(name, cost, variant, workers, run, LONGEST) for variant in WITH_RECIPES for run in range(repeats)
        ]
    return sorted(found, key=lambda play: play.policy not in ("gp", "ray_optuna_asha"))


def table_figures(played: Sequence[Played], draws: int) -> dict[str, Any]:
    """Returns a table's own figures, and below them those of each pair of objectives and number of workers."""
    pairs: dict[str, Any] = {}
    for cost in COSTS:
        for workers in WORKERS:
            chosen = [one for one in played if (one.play.cost, one.play.workers) == (cost, workers)]
            if chosen:
                pairs.setdefault(f"accuracy/{cost}", {})[f"{workers} workers"] = pair_figures(chosen, draws)
    own = pairs[f"accuracy/{COSTS[0]}"][f"{WORKERS[0]} workers"]
    top = {f"speedup_vs_{rival}": own["speedups"][rival]["value"] for rival in HEADLINE}
    top |= {f"regret_{budget}": own["regrets"][str(budget)]["value"] for budget in BUDGETS}
    return {**top, "false_stop_rate": own["false_stop_rate"], **own.get("recipes", {}), "pairs": pairs}


if __name__ == "__main__":
    main()
