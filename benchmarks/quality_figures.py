"""Figures of a table at one pair of objectives and one number of workers, from simulated searches. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks import robust
from benchmarks.robust import Floats
from benchmarks.simulations import OURS, SimulationResult

HEADLINE = ("random", "ray_optuna_asha", "nsga2", "tpe", "moasha_random")
ABLATIONS = tuple(name for name in OURS if name != "ours" and "recipes" not in name)
BUDGETS = (24, 50, 100)
ENDS, LONGEST = 100, 300
"""Budgets, in full trainings, of the rivals, and of our search at most."""


def pair_figures(results: Sequence[SimulationResult], num_bootstraps: int) -> dict[str, Any]:
    """Returns speed-ups, regrets, false stops and how our search spent its epochs."""
    epochs = results[0].epochs
    longest = max(result.task.budget for result in results if result.task.method == "ours")
    grid = np.arange(0.0, longest * epochs + 1, epochs / 9)
    short = grid <= ENDS * epochs
    rows = {name: _rows(results, name, grid) for name in dict.fromkeys(result.task.method for result in results)}
    ours = rows["ours"]
    rivals = {name: found[:, short] for name, found in rows.items() if name not in OURS}
    budgeted = [result for result in results if result.task.method == "ours" and result.task.budget == ENDS]
    found: dict[str, Any] = {
        "speedups": {name: robust.speedup(rival, ours, grid, num_bootstraps) for name, rival in rivals.items()},
        "regrets": {str(budget): _regret(results, budget, num_bootstraps) for budget in BUDGETS},
        f"regrets_on_the_way_to_{longest}": _regrets(ours, grid, epochs),
        "regrets_of_rivals": {name: _regrets(rival, grid[short], epochs) for name, rival in rivals.items()},
        **_false_stops(budgeted),
        "busy_share": statistics.fmean(result.busy_share for result in budgeted),
        "epochs_of_ours": _shares(budgeted),
        "missed_by_ours": _missed(budgeted),
        "ablations": {name: _ablation(rows[name], rivals, grid, epochs) for name in ABLATIONS if name in rows},
    }
    if "ours_good_recipes" in rows:
        found["recipes"] = _recipes(rows, float(robust.iqm(rivals["random"])[-1]), grid)
    return found


def cpu_seconds(results: Iterable[SimulationResult]) -> dict[str, float]:
    """Returns the mean CPU seconds of a search, by method."""
    found: dict[str, list[float]] = {}
    for result in results:
        found.setdefault(result.task.method, []).append(result.cpu_s)
    return {name: round(statistics.fmean(seconds), 2) for name, seconds in found.items()}


def _rows(results: Sequence[SimulationResult], name: str, grid: Floats) -> Floats:
    """Returns the curves of a method's searches of the largest budget, one row per run."""
    longest = max(result.task.budget for result in results if result.task.method == name)
    chosen = [result for result in results if result.task.method == name and result.task.budget == longest]
    return robust.matrix([result.curve for result in sorted(chosen, key=lambda result: result.task.run)], grid)


def _regret(results: Sequence[SimulationResult], budget: int, num_bootstraps: int) -> dict[str, float]:
    """Returns the final regret of searches with this budget."""
    chosen = [result for result in results if result.task.method == "ours" and result.task.budget == budget]
    regrets = np.array([1.0 - result.curve[-1][1] for result in chosen])
    return robust.interval(lambda rows: float(robust.iqm(regrets[rows])), len(regrets), num_bootstraps)


def _regrets(rows: Floats, grid: Floats, epochs: int) -> dict[str, float]:
    mean = robust.iqm(rows)
    return {str(budget): float(1.0 - mean[np.searchsorted(grid, budget * epochs)]) for budget in BUDGETS}


def _false_stops(results: Sequence[SimulationResult]) -> dict[str, Any]:
    stopped, started = (sum(result.false_stops[i] for result in results) for i in (0, 1))
    return {"false_stop_rate": stopped / max(started, 1), "members_started": started, "members_stopped": stopped}


def _shares(results: Sequence[SimulationResult]) -> dict[str, float]:
    """Returns the share of the epochs by the last state of the trial."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.epochs_by_outcome)
    return {state: round(epochs / total.total(), 4) for state, epochs in total.most_common()}


def _missed(results: Sequence[SimulationResult]) -> dict[str, Any]:
    """Returns, for each missed member of the true front, in how many runs it ended in which state."""
    reasons: dict[int, Counter[str]] = {}
    for result in results:
        for config, reason in result.missed.items():
            reasons.setdefault(config, Counter())[reason] += 1
    ordered = sorted(reasons.items(), key=lambda item: -item[1].total())
    return {str(config): dict(found.most_common()) for config, found in ordered}


def _ablation(rows: Floats, rivals: dict[str, Floats], grid: Floats, epochs: int) -> dict[str, Any]:
    return {
        **{f"speedup_vs_{name}": robust.ratio(rivals[name], rows, grid) for name in HEADLINE},
        "regrets": _regrets(rows, grid, epochs),
    }


def _recipes(rows: dict[str, Floats], target: float, grid: Floats) -> dict[str, float]:
    """Returns the speed-up with good recipes, and the slowdown with bad ones, to the hypervolume `target`."""
    plain, good, bad = (
        robust.first(robust.iqm(rows[name]), grid, target) or float(grid[-1])
        for name in ("ours", "ours_good_recipes", "ours_bad_recipes")
    )
    return {"speedup_with_good_recipes": plain / good, "slowdown_with_bad_recipes": bad / plain - 1.0}
