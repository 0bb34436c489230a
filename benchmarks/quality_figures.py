"""The figures of one table at one pair of objectives and one number of workers, from its plays. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks import robust
from benchmarks.plays import OURS, Played
from benchmarks.robust import Floats

HEADLINE = ("random", "ray_optuna_asha", "nsga2", "tpe", "moasha_random")
ABLATIONS = tuple(name for name in OURS if name != "ours" and "recipes" not in name)
BUDGETS = (24, 50, 100)
ENDS, LONGEST = 100, 300
"""Full trainings after which a rival's hypervolume is its final one, and that ours may spend at most."""


def pair_figures(played: Sequence[Played], draws: int) -> dict[str, Any]:
    """Returns speed-ups, regrets, false stops and where the epochs of ours went."""
    epochs = played[0].epochs
    longest = max(one.play.trainings for one in played if one.play.policy == "ours")
    grid = np.arange(0.0, longest * epochs + 1, epochs / 9)
    short = grid <= ENDS * epochs
    rows = {name: _rows(played, name, grid) for name in dict.fromkeys(one.play.policy for one in played)}
    ours = rows["ours"]
    rivals = {name: found[:, short] for name, found in rows.items() if name not in OURS}
    budgeted = [one for one in played if one.play.policy == "ours" and one.play.trainings == ENDS]
    found: dict[str, Any] = {
        "speedups": {name: robust.speedup(rival, ours, grid, draws) for name, rival in rivals.items()},
        "regrets": {str(budget): _regret(played, budget, draws) for budget in BUDGETS},
        f"regrets_on_the_way_to_{longest}": _regrets(ours, grid, epochs),
        "regrets_of_rivals": {name: _regrets(rival, grid[short], epochs) for name, rival in rivals.items()},
        **_false_stops(budgeted),
        "busy_share": statistics.fmean(one.busy_share for one in budgeted),
        "epochs_of_ours": _shares(budgeted),
        "missed_by_ours": _missed(budgeted),
        "ablations": {name: _ablation(rows[name], rivals, grid, epochs) for name in ABLATIONS if name in rows},
    }
    if "ours_good_recipes" in rows:
        found["recipes"] = _recipes(rows, float(robust.iqm(rivals["random"])[-1]), grid)
    return found


def cpu_seconds(played: Iterable[Played]) -> dict[str, float]:
    """Returns the mean CPU seconds of a play, by policy."""
    found: dict[str, list[float]] = {}
    for one in played:
        found.setdefault(one.play.policy, []).append(one.cpu_s)
    return {name: round(statistics.fmean(seconds), 2) for name, seconds in found.items()}


def _rows(played: Sequence[Played], name: str, grid: Floats) -> Floats:
    """Returns the curves of a policy's longest plays, a row a run."""
    longest = max(one.play.trainings for one in played if one.play.policy == name)
    chosen = [one for one in played if one.play.policy == name and one.play.trainings == longest]
    return robust.matrix([one.curve for one in sorted(chosen, key=lambda one: one.play.run)], grid)


def _regret(played: Sequence[Played], budget: int, draws: int) -> dict[str, float]:
    """Returns what a search that was told this budget lacks at its end."""
    chosen = [one for one in played if one.play.policy == "ours" and one.play.trainings == budget]
    lacks = np.array([1.0 - one.curve[-1][1] for one in chosen])
    return robust.interval(lambda rows: float(robust.iqm(lacks[rows])), len(lacks), draws)


def _regrets(rows: Floats, grid: Floats, epochs: int) -> dict[str, float]:
    mean = robust.iqm(rows)
    return {str(budget): float(1.0 - mean[np.searchsorted(grid, budget * epochs)]) for budget in BUDGETS}


def _false_stops(played: Sequence[Played]) -> dict[str, Any]:
    stopped, started = (sum(one.false_stops[i] for one in played) for i in (0, 1))
    return {"false_stop_rate": stopped / max(started, 1), "members_started": started, "members_stopped": stopped}


def _shares(played: Sequence[Played]) -> dict[str, float]:
    """Returns the share of the epochs that went into trials of each fate."""
    total: Counter[str] = Counter()
    for one in played:
        total.update(one.fates)
    return {fate: round(epochs / total.total(), 4) for fate, epochs in total.most_common()}


def _missed(played: Sequence[Played]) -> dict[str, Any]:
    """Returns, for each member of the true front that was missed, in how many of the runs and how far it came."""
    reasons: dict[int, Counter[str]] = {}
    for one in played:
        for config, reason in one.missed.items():
            reasons.setdefault(config, Counter())[reason] += 1
    ordered = sorted(reasons.items(), key=lambda item: -item[1].total())
    return {str(config): dict(found.most_common()) for config, found in ordered}


def _ablation(rows: Floats, rivals: dict[str, Floats], grid: Floats, epochs: int) -> dict[str, Any]:
    return {
        **{f"speedup_vs_{name}": robust.ratio(rivals[name], rows, grid) for name in HEADLINE},
        "regrets": _regrets(rows, grid, epochs),
    }


def _recipes(rows: dict[str, Floats], target: float, grid: Floats) -> dict[str, float]:
    """Returns how much sooner ours is where random search ends with good recipes, and how much later with bad ones."""
    plain, good, bad = (
        robust.first(robust.iqm(rows[name]), grid, target) or float(grid[-1])
        for name in ("ours", "ours_good_recipes", "ours_bad_recipes")
    )
    return {"speedup_with_good_recipes": plain / good, "slowdown_with_bad_recipes": bad / plain - 1.0}
