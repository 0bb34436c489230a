"""Picks: points of a study selected by a short text such as `knee`, `best:accuracy` or `trial:31`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from config.errors import did_you_mean
from results import pareto
from results.metrics import ALL_METRICS, ResultsError, check_metric
from results.study import FrontPoint, StudyResult
from results.study.constraints import empty_front

PICKS = {"knee": "knee", "front": "front", "best": "best:accuracy", "cheapest": "cheapest:synops", "trial": "trial:31"}
"""Examples by the kind of pick."""

Floors = Mapping[str, float]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def parse_pick(text: str) -> tuple[str, str]:
    """Returns the kind of pick and its argument. Raises ResultsError with the allowed forms."""
    kind, _, argument = text.partition(":")
    if kind not in PICKS:
        raise ResultsError(
            f"--pick {text}: must be knee, front, best:METRIC, cheapest:METRIC or trial:N.{did_you_mean(kind, PICKS)}"
        )
    if (":" in PICKS[kind]) != bool(argument):
        raise ResultsError(f"--pick {text}: must be of the form {PICKS[kind]}")
    if kind == "trial":
        _with_option(f"--pick {text}", parse_trial, argument)
    if kind in ("best", "cheapest"):
        _with_option(f"--pick {text}", check_metric, argument)
    if kind == "cheapest" and ALL_METRICS[argument].direction == "maximize":
        raise ResultsError(f"--pick {text}: {argument} is not a cost; use best:{argument}")
    return kind, argument


def parse_trial(text: str) -> int:
    """Returns the number of a trial that is given as 31 or t0031. Raises ResultsError."""
    if re.fullmatch(r"[tT]?[0-9]{1,9}", text) is None:
        raise ResultsError(f"must be a trial's number or name, such as 31 or t0031 (got {text!r})")
    return int(text.lstrip("tT"))


def _with_option(option: str, check: Callable[[str], object], text: str) -> None:
    """Checks a text and raises its error with the option that gave it."""
    try:
        check(text)
    except ResultsError as error:
        raise ResultsError(f"{option}: {error}") from None


def parse_floors(texts: Sequence[str]) -> dict[str, float]:
    """Returns {metric: minimum} from texts like `accuracy=92`. Raises ResultsError."""
    floors: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not _NUMBER.fullmatch(value.strip()):
            raise ResultsError(f"--at-least {text}: must be METRIC=NUMBER, such as accuracy=92")
        _with_option(f"--at-least {text}", check_metric, name.strip())
        floors[name.strip()] = float(value)
    return floors


def pick(
    study: StudyResult,
    text: str,
    floors: Floors | None = None,
    read_step: int | None = None,
    exit_number: int | None = None,
) -> list[FrontPoint]:
    """Returns the picked points, at least one, in the front's order. Raises ResultsError if there is none.

    `floors` are the minimum values of metrics. `read_step` replaces the picked points by that read-out of the same
    trials, `exit_number` by that exit point. `best` and `cheapest` pick among all full-fidelity points, `knee` and
    `front` among the front.
    """
    kind, argument = parse_pick(text)
    floors = floors or {}
    if kind == "trial":
        return [_pick_trial(study, parse_trial(argument), floors, read_step, exit_number or 0)]
    points = study.front() if kind in ("knee", "front") else study.points()
    allowed = [point for point in points if _satisfies(point, floors)]
    if not allowed:
        raise ResultsError(_no_point_message(study, points, floors))
    if kind == "knee":
        allowed = [allowed[pareto.knee([study.values(point) for point in allowed])]]
    elif kind != "front":
        allowed = [min(allowed, key=lambda point: _rank(study, point, argument))]
    if read_step is None and exit_number is None:
        return allowed
    return [study.point(number, read_step, exit_number or 0) for number in dict.fromkeys(p.trial for p in allowed)]


def _pick_trial(study: StudyResult, number: int, floors: Floors, read_step: int | None, exit_number: int) -> FrontPoint:
    trial = study.trial(number)
    if trial.state == "failed":
        raise ResultsError(f"trial {number} failed ({trial.failure_class}: {trial.failure_reason}); choose another")
    point = study.point(number, read_step, exit_number)
    if not _satisfies(point, floors):
        has = ", ".join(f"{name} {point.metrics[name]:.6g}" for name in floors if name in point.metrics) or "no metrics"
        raise ResultsError(f"trial {number} does not satisfy {_format_floors(floors)}; it has {has}")
    return point


def _rank(study: StudyResult, point: FrontPoint, metric: str) -> tuple[float, ...]:
    """Sort key: the metric, best first, then the study's objectives, the trial and the read-out."""
    sign = -1.0 if ALL_METRICS[metric].direction == "maximize" else 1.0
    value = sign * point.metrics.get(metric, sign * float("inf"))
    return value, *study.values(point), *point.read_out


def _satisfies(point: FrontPoint, floors: Floors) -> bool:
    return all(point.metrics.get(name, float("-inf")) >= floor for name, floor in floors.items())


def _no_point_message(study: StudyResult, points: Sequence[FrontPoint], floors: Floors) -> str:
    if not points:
        done, total = len(study.select("complete")), len(study.trials)
        cause = "none of them within the constraints" if done else "--pick trial:N takes one that is not"
        if (empty := empty_front(study)) is not None:
            cause += f"; the nearest is {empty[1]}"
        return f"{study.name} has no point to pick: {done} of {total} trials are at full fidelity, {cause}"
    elsewhere = any(_satisfies(point, floors) for point in study.points())
    text = f"no {'point of the front' if elsewhere else 'full-fidelity trial'} satisfies {_format_floors(floors)}"
    if len(floors) > 1:
        return text
    best = max(point.metrics.get(name, float("-inf")) for point in points for name in floors)
    return f"{text}; the best has {best:.10g}"


def _format_floors(floors: Floors) -> str:
    return " and ".join(f"{name} >= {value:.10g}" for name, value in floors.items())
