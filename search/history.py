"""What the rungs hold and what the sampler sees, from the trials alone: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from search.records import Record
from search.samplers import Seen
from search.space import Space

MIN_POINTS = 10
"""Points a rung must hold before the sampler looks at it rather than at a lower one."""


def point(space: Space, metrics: Mapping[str, float], minimise: bool = False) -> list[float]:
    """Returns the objectives, with `minimise` each so that smaller is better."""
    goals = space.objectives.items()
    return [-metrics[key] if minimise and goal == "maximize" else metrics[key] for key, goal in goals]


def violations(space: Space, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns by how much each constraint on a measured metric is broken: above 0 where it is."""
    bounds = space.settings.constraints
    return {key: bound.violation(metrics[key]) for key, bound in bounds.items() if key in metrics}


def rung(space: Space, records: Collection[Record], epoch: int) -> dict[int, list[float]]:
    """Returns the points, all to be minimised, of the trials that reached `epoch`; failed ones are no rivals."""
    return {
        record.number: point(space, record.epochs[epoch], minimise=True)
        for record in records
        if epoch in record.epochs and record.state != "failed"
    }


def seen(space: Space, records: Collection[Record]) -> list[Seen]:
    """Returns what the sampler sees: the highest rung that holds enough points, and the running trials."""
    levels = [*space.rungs(), space.budget.epochs]
    level = next((e for e in reversed(levels) if len(rung(space, records, e)) >= MIN_POINTS), levels[0])
    found = []
    for record in records:
        metrics = record.epochs.get(level)
        if metrics is not None and record.state != "failed":
            found.append(Seen(record.draw, point(space, metrics), violations(space, metrics)))
        elif record.state == "running":
            found.append(Seen(record.draw, None))
    return found
