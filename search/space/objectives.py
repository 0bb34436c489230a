"""Objective vectors and constraint violations of a trial's metrics."""

from __future__ import annotations

from collections.abc import Mapping

from search.space.space import Space


def objective_vector(space: Space, metrics: Mapping[str, float], minimise: bool = False) -> list[float]:
    """Returns the objectives in the file's order; with `minimise`, those to maximize are negated."""
    directions = space.objectives.items()
    return [-metrics[key] if minimise and goal == "maximize" else metrics[key] for key, goal in directions]


def is_violating(space: Space, metrics: Mapping[str, float]) -> bool:
    """Returns whether a constraint on a measured metric is broken."""
    return any(violation > 0 for violation in constraint_violations(space, metrics).values())


def constraint_violations(space: Space, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the violation of each constraint on a measured metric: positive where it is broken."""
    bounds = space.settings.constraints
    return {key: bound.violation(metrics[key]) for key, bound in bounds.items() if key in metrics}
