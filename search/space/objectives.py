"""Objective vectors and constraint violations of a trial's metrics."""

from __future__ import annotations

from collections.abc import Mapping

from search.space.space import Space


def point(space: Space, metrics: Mapping[str, float], minimise: bool = False) -> list[float]:
    """Returns the objectives, with `minimise` each so that smaller is better."""
    goals = space.objectives.items()
    return [-metrics[key] if minimise and goal == "maximize" else metrics[key] for key, goal in goals]


def violations(space: Space, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns by how much each constraint on a measured metric is broken: above 0 where it is."""
    bounds = space.settings.constraints
    return {key: bound.violation(metrics[key]) for key, bound in bounds.items() if key in metrics}
