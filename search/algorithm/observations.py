"""What the sampler sees of the trials so far: the points of one rung, the running trials, and what failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from search.algorithm import moasha
from search.algorithm.samplers import Observation
from search.algorithm.trial import Trial
from search.space.objectives import point, violations
from search.space.space import Space

MIN_POINTS = 10
"""Points a rung must hold before the sampler looks at it rather than at a lower one."""

THINNED = frozenset({"tpe", "gp"})
"""Samplers that take the longer the more they see; the others need whole generations, or nothing."""
MAX_OBSERVATIONS = 250
"""Measured trials that those see: the best quarter of so many, and of all others an even selection."""

CONFIG_FAILURES = frozenset({"silent", "saturated", "dead_layer", "no_gradient", "diverged", "at_chance", "oom"})
"""Failures of a training that come of the config, from which the sampler learns to keep away."""


def for_sampler(space: Space, records: Collection[Trial]) -> list[Observation]:
    """Returns what the sampler sees: the highest rung that holds enough points, the running trials, the failed ones.

    A config that failed, or was refused, stands with the worst values seen and broken constraints, so that its
    surroundings are avoided.
    """
    own = [record for record in records if record.seed_of is None]
    levels = [*space.rung_epochs(), space.budget.epochs]
    level = next((epoch for epoch in reversed(levels) if len(_rung(own, epoch)) >= MIN_POINTS), levels[0])
    there = _rung(own, level)
    points = {record.number: point(space, record.epochs[level]) for record in there}
    broken = {record.number: violations(space, record.epochs[level]) for record in there}
    failed = [record for record in own if record.failure_class in CONFIG_FAILURES or record.infeasible is not None]
    if failed and points:
        goals = space.objectives.values()
        worst = [
            (min if goal == "maximize" else max)(column)
            for goal, column in zip(goals, zip(*points.values(), strict=True), strict=True)
        ]
        names = {name for found in broken.values() for name in found}
        broken = {number: {**found, "health": 0.0} for number, found in broken.items()}
        for record in failed:
            points[record.number], broken[record.number] = worst, {**dict.fromkeys(names, 1.0), "health": 1.0}
    if space.settings.sampler.name in THINNED and len(points) > MAX_OBSERVATIONS:
        points = {number: points[number] for number in _representative(space, points, broken)}
    return [
        Observation(record.suggestion, points.get(record.number), broken.get(record.number, {}))
        for record in own
        if record.number in points or record.state == "running"
    ]


def _representative(
    space: Space, points: Mapping[int, Sequence[float]], broken: Mapping[int, Mapping[str, float]]
) -> set[int]:
    """Returns `MOST_SEEN` trials that stand for all: the best, and an even selection of the others."""
    down = {
        number: point(space, dict(zip(space.objectives, values, strict=True)), minimise=True)
        for number, values in points.items()
    }
    worse = {number for number in points if any(amount > 0 for amount in broken.get(number, {}).values())}
    kept = set(moasha.best(down, MAX_OBSERVATIONS // 4, worse))
    others = sorted(points.keys() - kept)
    room = MAX_OBSERVATIONS - len(kept)
    return kept | {others[i * len(others) // room] for i in range(room)}


def _rung(records: Collection[Trial], epoch: int) -> list[Trial]:
    return [record for record in records if epoch in record.epochs and record.state != "failed"]
