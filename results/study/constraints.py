"""Constraints that keep full trainings off the front, and the training that is nearest to satisfying them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from results.metrics import format_metric
from results.study.result import StudyResult
from results.study.trial import FrontPoint


def broken(study: StudyResult, point: FrontPoint) -> dict[str, float]:
    """Returns the constraints that a point breaks, as `accuracy 62.1 (must be >= 80)`, with the relative excess."""
    return dict(_broken(study, point))


def nearest(study: StudyResult) -> FrontPoint | None:
    """Returns the full-fidelity read-out that exceeds its bounds least, relative to these, None without any."""
    found = [point for point in study.read_outs() if all(math.isfinite(value) for value in study.values(point))]
    better = [point for point in found if not is_at_chance(point)] or found
    return min(better, key=lambda point: (sum(broken(study, point).values()), study.values(point)), default=None)


def is_at_chance(point: FrontPoint) -> bool:
    """Returns whether the point's accuracy is no better than a guess."""
    return point.metrics.get("accuracy", math.inf) <= point.metrics.get("chance", -math.inf)


def empty_front(study: StudyResult) -> tuple[str, str] | None:
    """Returns why no full training is a candidate for the front, and the nearest one; None if there are candidates."""
    num_complete, point = len(study.select("complete")), nearest(study)
    if study.points() or point is None:
        return None
    reasons = list(broken(study, point))
    problem = "meets the constraints" if reasons else "is better than a guess"
    if is_at_chance(point):
        reasons.append(f"accuracy {format_metric('accuracy', point.metrics['accuracy'])} is no better than a guess")
    trainings = f"none of {num_complete} full trainings" if num_complete > 1 else "no full training"
    return f"{trainings} {problem}", f"{point.key} read at step {point.read_step}: {', '.join(reasons)}"


def _broken(study: StudyResult, point: FrontPoint) -> Iterator[tuple[str, float]]:
    for name, limits in study.constraints.items():
        value = point.metrics.get(name, math.nan)
        for sign, word, limit in ((1.0, ">=", limits.get("min")), (-1.0, "<=", limits.get("max"))):
            if limit is not None and not sign * value >= sign * limit:
                excess = abs(value - limit) / (abs(limit) or 1.0)
                text = f"{name} {format_metric(name, value)} (must be {word} {limit:g})"
                yield text, excess if math.isfinite(excess) else math.inf
