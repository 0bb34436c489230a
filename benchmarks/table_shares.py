"""Shares of the true front's hypervolume that searches reach on any tables, after numbers of full trainings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.quality_figures import cpu_seconds
from benchmarks.simulations import SimulationResult, SimulationTask, run_parallel, run_task
from config.errors import ConfigError
from search.simulation import foreign_tables
from search.simulation.evaluation import value_at

POLICIES = ("ours", "random", "tpe", "nsga2", "moasha_random", "moasha_tpe")
CHECKPOINTS = (6, 12, 24, 50, 100)
"""Full trainings, up to the budget, after which the hypervolume counts."""

Shares = dict[str, dict[str, dict[str, float]]]
"""A figure by table, policy and number of full trainings."""


def measure(
    folders: Sequence[Path], policies: Sequence[str], repeats: int, workers: int, budget: int, jobs: int
) -> dict[str, Any]:
    """Returns mean shares, their standard errors, and the mean ranks of the policies over the tables."""
    names = table_names(folders)
    runs = itertools.product(names, policies, range(repeats))
    tasks = [SimulationTask(path, "", policy, workers, run, budget) for path, policy, run in runs]
    results = list(run_parallel(run_task, tasks, min(jobs, len(tasks))).values())
    marks = [*(mark for mark in CHECKPOINTS if mark < budget), budget]
    shares = {
        names[path]: {policy: shares_at(marks, of_policy(results, path, policy)) for policy in policies}
        for path in names
    }
    tables = _each(shares, lambda found: float(np.mean(found)))
    details: dict[str, Any] = {"repeats": repeats, "workers": workers, "budget": budget, "cpu_s": cpu_seconds(results)}
    if repeats > 1:
        details["standard_errors"] = _each(shares, lambda found: float(np.std(found, ddof=1) / repeats**0.5))
    return {"tables": tables, "mean_ranks": mean_ranks(tables), "details": details}


def table_names(folders: Iterable[Path]) -> dict[str, str]:
    """Returns the name of the table in each folder, by its path. Raises ConfigError if two have the same."""
    names: dict[str, str] = {}
    for folder in folders:
        path, name = str(folder.resolve()), foreign_tables.load_table(folder).space.study
        if name in names.values() and path not in names:
            raise ConfigError(f"{folder}: its name must differ from that of the other tables (got {name})")
        names[path] = name
    return names


def of_policy(results: Iterable[SimulationResult], path: str, policy: str) -> list[SimulationResult]:
    return [one for one in results if (one.task.table, one.task.method) == (path, policy)]


def shares_at(marks: Iterable[int], results: Sequence[SimulationResult]) -> dict[str, list[float]]:
    """Returns the share of each search after each of these numbers of full trainings."""
    return {str(mark): [value_at(one.curve, mark * one.epochs) for one in results] for mark in marks}


def mean_ranks(tables: Shares) -> dict[str, dict[str, float]]:
    """Returns the rank of each policy by number of full trainings, 1 for the best, averaged over the tables."""
    found: dict[str, dict[str, float]] = {}
    policies = list(next(iter(tables.values())))
    for mark in next(iter(tables.values()))[policies[0]]:
        ranks = [rankdata([-shares[policy][mark] for policy in policies]) for shares in tables.values()]
        found[mark] = dict(zip(policies, np.mean(ranks, axis=0).tolist(), strict=True))
    return found


def format_figures(figures: dict[str, Any]) -> str:
    """Returns one table of text per number of full trainings, with the mean over tables and the mean rank."""
    tables, blocks = figures["tables"], []
    width = max(map(len, [*tables, "mean rank"]))
    for mark, ranks in figures["mean_ranks"].items():
        rows = {name: [shares[policy][mark] for policy in ranks] for name, shares in tables.items()}
        rows |= {"mean": np.mean(list(rows.values()), axis=0).tolist(), "mean rank": list(ranks.values())}
        head = f"share of the hypervolume after {mark} full trainings\n{'':{width}}  {'  '.join(ranks)}"
        lines = (
            f"{name:{width}}  "
            + "  ".join(f"{value:{len(policy)}.3f}" for policy, value in zip(ranks, row, strict=True))
            for name, row in rows.items()
        )
        blocks.append("\n".join([head, *lines]))
    return "\n\n".join(blocks)


def _each(shares: dict[str, dict[str, dict[str, list[float]]]], figure: Callable[[list[float]], float]) -> Shares:
    return {
        name: {policy: {mark: figure(found) for mark, found in by_mark.items()} for policy, by_mark in policies.items()}
        for name, policies in shares.items()
    }
