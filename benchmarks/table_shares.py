"""Shares of the true front's hypervolume that searches reach on any tables, after numbers of full trainings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.simulations import SimulationResult, SimulationTask, run_parallel, run_task
from config.errors import ConfigError
from results.pareto import Floats
from search.simulation import foreign_tables
from search.simulation.evaluation import value_at

POLICIES = ("ours", "random", "tpe", "nsga2", "moasha_random", "moasha_tpe")
CHECKPOINTS = (6, 12, 24, 50, 100)
"""Full trainings, up to the budget, after which the hypervolume counts."""
SUBJECT, SPEEDUP_AT = "ours", 50
"""The policy whose speed-ups are told, and the full trainings whose result is to be reached."""

Shares = dict[str, dict[str, dict[str, float]]]
"""A figure by table, policy and number of full trainings."""

Policies = Mapping[str, tuple[str, tuple[str, ...]]]
"""By name: a method of `benchmarks.simulations`, and its overrides."""

Results = dict[str, dict[str, list[SimulationResult]]]
"""Results by table and policy, in the order of the runs."""


def measure(
    folders: Sequence[Path], policies: Sequence[str], repeats: int, workers: int, budget: int, jobs: int
) -> dict[str, Any]:
    """Returns mean shares, their standard errors, and the mean ranks of the policies over the tables."""
    names = table_names(folders)
    results = play(list(names), {policy: (policy, ()) for policy in policies}, repeats, workers, budget, jobs)
    shares = {names[path]: shares_of(found, marks(budget)) for path, found in results.items()}
    tables = _each(shares, lambda found: float(np.mean(found)))
    details: dict[str, Any] = {"repeats": repeats, "workers": workers, "budget": budget, "cpu_s": cpu_of(results)}
    if repeats > 1:
        details["standard_errors"] = _each(shares, lambda found: float(np.std(found, ddof=1) / repeats**0.5))
    found = {"tables": tables, "mean_ranks": mean_ranks(tables), "details": details}
    if SUBJECT in policies and len(policies) > 1:
        found["speedups"] = speedups({names[path]: policies for path, policies in results.items()}, budget)
    return found


def speedups(results: Results, budget: int) -> dict[str, dict[str, float]]:
    """Returns by rival and table how many times as soon our search reaches the rival's share after 50 full trainings.

    Of the mean curves of all runs; 0 if it does not within the budget. `median` is over the tables.
    """
    end = min(SPEEDUP_AT, budget)
    grid = np.arange(0.25, budget + 0.125, 0.25)
    found: dict[str, dict[str, float]] = {}
    for name, policies in results.items():
        ours = _mean_curve(policies[SUBJECT], grid)
        for rival in policies.keys() - {SUBJECT}:
            target = _mean_curve(policies[rival], np.array([float(end)]))[0]
            reached = grid[ours >= target]
            found.setdefault(rival, {})[name] = float(end / reached[0]) if len(reached) else 0.0
    return {rival: {"median": float(np.median(list(by.values()))), **by} for rival, by in sorted(found.items())}


def _mean_curve(results: Sequence[SimulationResult], trainings: Floats) -> Floats:
    rows = [[value_at(one.curve, count * one.epochs) for count in trainings] for one in results]
    return np.asarray(np.mean(rows, axis=0))


def play(tables: Sequence[str], policies: Policies, repeats: int, workers: int, budget: int, jobs: int) -> Results:
    """Returns the results of all policies on all tables; a run meets the same world under every policy."""

    def task(table: str, policy: str, run: int) -> SimulationTask:
        method, overrides = policies[policy]
        return SimulationTask(table, "", method, workers, run, budget, overrides)

    tasks = dict.fromkeys(itertools.starmap(task, itertools.product(tables, policies, range(repeats))))
    results = run_parallel(run_task, list(tasks), min(jobs, len(tasks)))
    return {
        table: {policy: [results[task(table, policy, run)] for run in range(repeats)] for policy in policies}
        for table in tables
    }


def marks(budget: int) -> list[int]:
    """Returns the numbers of full trainings after which the hypervolume counts, the budget last."""
    return [*(mark for mark in CHECKPOINTS if mark < budget), budget]


def shares_of(
    results: Mapping[str, Sequence[SimulationResult]], counts: Sequence[int]
) -> dict[str, dict[str, list[float]]]:
    """Returns the share of each search by policy, after each of these numbers of full trainings."""
    return {
        policy: {str(mark): [value_at(one.curve, mark * one.epochs) for one in found] for mark in counts}
        for policy, found in results.items()
    }


def cpu_of(results: Results) -> dict[str, float]:
    """Returns the mean CPU seconds of a search, by policy."""
    seconds: dict[str, list[float]] = {}
    for found in results.values():
        for policy, runs in found.items():
            seconds.setdefault(policy, []).extend(run.cpu_s for run in runs)
    return {policy: round(float(np.mean(values)), 2) for policy, values in seconds.items()}


def table_names(folders: Iterable[Path]) -> dict[str, str]:
    """Returns the name of the table in each folder, by its path. Raises ConfigError if two have the same."""
    names: dict[str, str] = {}
    for folder in folders:
        path, name = str(folder.resolve()), foreign_tables.load_table(folder).space.study
        if name in names.values() and path not in names:
            raise ConfigError(f"{folder}: its name must differ from that of the other tables (got {name})")
        names[path] = name
    return names


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
    if "speedups" in figures:
        head = (
            f"ours, times as soon at the share of a rival after {SPEEDUP_AT} full trainings: median (worst) over tables"
        )
        rows = {rival: list(by.values()) for rival, by in figures["speedups"].items()}
        blocks.append("\n".join([head, *(f"{rival:{width}}  {v[0]:.2f} ({min(v):.2f})" for rival, v in rows.items())]))
    return "\n\n".join(blocks)


def _each(shares: dict[str, dict[str, dict[str, list[float]]]], figure: Callable[[list[float]], float]) -> Shares:
    return {
        name: {policy: {mark: figure(found) for mark, found in by_mark.items()} for policy, by_mark in policies.items()}
        for name, policies in shares.items()
    }
