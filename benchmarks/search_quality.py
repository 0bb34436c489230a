"""How good is the search? `python -m benchmarks.search_quality --json FILE`, in `--quick` form under two minutes.

Plays our policy and its rivals on the recorded tables and compares hypervolumes by epochs spent. A speed-up is the
epochs that a rival spends to reach where it ends after 100 full trainings, over those that ours spends to get there,
on the interquartile means of the repeats. Ours is told a budget of 100; where that does not get it there, it plays
again and is told 300 (not in the quick form). Intervals are 95 % bootstraps. Regrets are those of searches that were
told a budget of 24, 50 and 100 trainings. A table's figure is that of accuracy against spike rate at 8 workers; `pairs`
hold those at 1 and 64 workers (a third of the repeats), too, and those of accuracy against synops. The figures on top
are medians over the tables.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from benchmarks.plays import TABLES, Play, Played, play, spread
from benchmarks.quality_figures import ABLATIONS, BUDGETS, ENDS, HEADLINE, LONGEST, cpu_seconds, pair_figures
from benchmarks.report import machine, write
from benchmarks.scaling import scaling
from search.simulation import recorded_curves

COSTS = ("spike_rate", "synops")
OTHERS = ("random_unrepeated", "sobol", "scalarised_asha", "moasha_syne_tune")
WITH_RECIPES = ("ours_good_recipes", "ours_bad_recipes")
WORKERS = (8, 1, 64)
GP_SHARE = 0.1
"""Of the repeats; Optuna's GP takes minutes a play."""
SLOWEST, FEW = ("gp", "ray_optuna_asha"), 4
"""Rivals that take longest, and repeats below which they are played half as often."""
PARTS = ("synops", "workers", "others", "gp", "ablations", "recipes", "scaling")
DRAWS = 1000
"""Bootstraps."""


def main(argv: Sequence[str] | None = None) -> None:
    """Plays, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="the figures on top alone, from fewer repeats")
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="what is measured beside these (default: all)")
    parser.add_argument("--repeats", type=int, help="repeats of each play (default 30, quick 2)")
    parser.add_argument("--tables", nargs="+", help="names of tables in benchmarks/tables (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args(argv)
    names = arguments.tables or sorted(path.parent.name for path in TABLES.glob(f"*/{recorded_curves.DATA}"))
    repeats = arguments.repeats or (2 if arguments.quick else 30)
    started = time.monotonic()
    parts = () if arguments.quick else PARTS if arguments.parts is None else arguments.parts
    figures = measure(names, repeats, arguments.jobs, parts)
    figures["details"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write(figures, arguments.json)


def measure(names: Sequence[str], repeats: int, jobs: int, parts: Collection[str]) -> dict[str, Any]:
    """Returns the figures of these tables: those on top, and of the rest those `parts` that are wanted."""
    tasks = [task for name in names for task in plan(name, repeats, parts)]
    played = list(spread(play, tasks, jobs).values())
    if parts:
        played += spread(play, longer(played), jobs).values()
    tables = {name: table_figures([one for one in played if one.play.table == name], DRAWS) for name in names}
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
        "cpu_s": cpu_seconds(played),
        "machine": machine() | {name: version(name) for name in ("optuna", "scipy", "numpy")},
    }
    if "scaling" in parts:
        details["scaling"] = scaling(jobs)
    return {**top, "tables": tables, "details": details}


def plan(name: str, repeats: int, parts: Collection[str] = PARTS) -> list[Play]:
    """Returns the plays of a table; what takes longest comes first, and in few repeats is played half as often."""
    found: list[Play] = []
    for cost in COSTS if "synops" in parts else COSTS[:1]:
        for workers in WORKERS if "workers" in parts and cost == COSTS[0] else WORKERS[:1]:
            runs = repeats if workers == WORKERS[0] else max(repeats // 3, 1)
            rivals = HEADLINE + OTHERS if "others" in parts and workers == WORKERS[0] else HEADLINE
            found += [Play(name, cost, rival, workers, run, ENDS) for rival in rivals for run in range(runs)]
            found += [Play(name, cost, "ours", workers, run, budget) for budget in BUDGETS for run in range(runs)]
    extra = {"gp": ("gp",), "ablations": ABLATIONS, "recipes": WITH_RECIPES}
    share = {"gp": GP_SHARE, "ablations": 0.5, "recipes": 1.0}
    for part, policies in extra.items():
        runs = math.ceil(repeats * share[part]) if part in parts else 0
        found += [Play(name, COSTS[0], one, WORKERS[0], run, ENDS) for one in policies for run in range(runs)]
    if repeats < FEW:
        found = [play for play in found if play.policy not in SLOWEST or play.run < max(repeats // 2, 1)]
    return sorted(found, key=lambda play: play.policy not in SLOWEST)


def longer(played: Sequence[Played]) -> list[Play]:
    """Returns further plays of ours, with the longest budget, where one of 100 does not get to where rivals end."""
    pairs: dict[tuple[str, str, int], list[Played]] = {}
    for one in played:
        pairs.setdefault((one.play.table, one.play.cost, one.play.workers), []).append(one)
    found = []
    for chosen in pairs.values():
        speedups = pair_figures(chosen, 1)["speedups"]
        if any(speedups[rival]["is_bound"] for rival in HEADLINE):
            ours = [one.play for one in chosen if (one.play.policy, one.play.trainings) == ("ours", ENDS)]
            found += [replace(play, trainings=LONGEST) for play in ours]
    return found


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
