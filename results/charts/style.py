"""Building blocks of the charts: colors, traces, axes, and numbers with few digits."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from results.metrics import ALL_METRICS
from results.study import FrontPoint

Chart = dict[str, Any]
Tabs = dict[str, Chart]
T = TypeVar("T")

WEBGL_POINTS = 2000
"""Traces with more points are drawn by WebGL if the browser has it."""
LOG_RATIO = 100.0
"""An axis is logarithmic if its largest value is more than this many times its smallest."""
MARGIN = 0.06
"""Space around the points, as a share of their span."""


class Color(StrEnum):
    """Variables of the report's style sheet, which defines them for light and dark."""

    BLUE = "var(--blue)"
    ORANGE = "var(--orange)"
    GREEN = "var(--green)"
    PURPLE = "var(--purple)"
    RED = "var(--red)"
    GREY = "var(--grey)"
    PALE = "var(--pale)"
    INK = "var(--ink)"
    PAPER = "var(--paper)"


LABELS = {"knee": Color.ORANGE, "best": Color.GREEN, "cheapest": Color.PURPLE}
"""Colors of the highlighted points: their markers, curves and badges."""


def label_color(labels: str) -> Color:
    """Returns the color of a trial by the first of its labels, such as `best, cheapest`."""
    return LABELS[labels.split(", ")[0]]


def round_number(value: float | None) -> float | int | None:
    """Returns a number with six digits, or None, which leaves a gap, if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def escape(text: object) -> str:
    """Returns a text in which plotly finds no HTML tags."""
    return html.escape(str(text), quote=False)


def scatter(
    name: str, x: Iterable[float | str | None], y: Iterable[float | str | None], mode: str = "markers", **more: Any
) -> Chart:
    """Returns a trace; numbers are rounded, texts are escaped."""
    return {"type": "scatter", "mode": mode, "name": escape(name), "x": _values(x), "y": _values(y), **more}


def markers(points: Sequence[FrontPoint], names: tuple[str, str], name: str, **marker: Any) -> Chart:
    """Returns a trace of measured points; the page adds each trial's config to the hover text."""
    x, y = ([point.metrics[metric] for point in points] for metric in names)
    trace = scatter(name, x, y, marker=marker, customdata=list(map(_custom, points)))
    trace["hovertemplate"] = f"{names[1]} %{{y}}, {names[0]} %{{x}}<br>%{{text}}<extra></extra>"
    return trace | ({"type": "scattergl"} if len(points) > WEBGL_POINTS else {})


def _custom(point: FrontPoint) -> list[int | str]:
    """Returns the trial and the read-out step of a point, and a text for its exits."""
    return [point.trial, point.read_step, *([point.read] if point.exit else [])]


def axis(metric: str, **more: Any) -> Chart:
    """Returns the axis of a metric, with its label."""
    return {"title": {"text": ALL_METRICS[metric].label}, **more}


def fitted_axis(metric: str, values: Sequence[float], extra: Sequence[float] = ()) -> Chart:
    """Returns an axis that spans `values`, and those of `extra` that at most double the span."""
    if not values:
        return axis(metric)
    low, high = min(values), max(values)
    is_log = low > 0 and high / low > LOG_RATIO
    scale = math.log10 if is_log else float
    near = [v for v in extra if (not is_log or v > 0) and _fits(scale(v), scale(low), scale(high))]
    first, last = scale(min([low, *near])), scale(max([high, *near]))
    margin = MARGIN * (last - first) or MARGIN * abs(last) or 1.0
    limits = [round_number(first - margin), round_number(last + margin)]
    return axis(metric, type="log" if is_log else "linear", range=limits)


def subsample(items: Sequence[T], limit: int, always: Iterable[T] = ()) -> list[T]:
    """Returns at most `limit` evenly spread items, and those of `always`, in their order."""
    step = max(1, math.ceil(len(items) / limit))
    required = {id(item) for item in always}
    return [item for position, item in enumerate(items) if position % step == 0 or id(item) in required]


def chart(data: Iterable[Chart], height: int, **layout: Any) -> Chart:
    """Returns a chart without empty traces; the page adds fonts, colors and margins."""
    return {"data": [trace for trace in data if trace["x"]], "layout": {"height": height, **layout}}


def _values(values: Iterable[float | str | None]) -> list[float | str | None]:
    return [escape(value) if isinstance(value, str) else round_number(value) for value in values]


def _fits(value: float, low: float, high: float) -> bool:
    return max(high, value) - min(low, value) <= 2 * (high - low)
