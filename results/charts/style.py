"""The building blocks of the charts: traces, axes, and numbers short enough for a file of a thousand trials."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from results.metrics import SHOWN
from results.study import FrontPoint

Chart = dict[str, Any]
Tabs = dict[str, Chart]
T = TypeVar("T")

BLUE, ORANGE, GREEN, PURPLE, RED = (f"var(--{name})" for name in ("blue", "orange", "green", "purple", "red"))
GREY, PALE, INK, PAPER = (f"var(--{name})" for name in ("grey", "pale", "ink", "paper"))
SEQUENCE = tuple(f"var(--seq{step})" for step in range(5))

MANY_POINTS = 2000
"""A trace of more points is drawn by WebGL, where the browser has it."""
LOG_RATIO = 100.0
MARGIN = 0.06


def rounded(value: float | None) -> float | int | None:
    """Returns a number with six digits; None where it is not finite, which leaves a gap."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def plain(text: object) -> str:
    """Returns a text that plotly shows as it is; plotly would read tags in it."""
    return html.escape(str(text), quote=False)


def dots(points: Sequence[FrontPoint], names: tuple[str, str], name: str, **marker: Any) -> Chart:
    """Returns a trace of measured points; the page adds each trial's config to the hover text."""
    x, y = ([rounded(point.metrics[metric]) for point in points] for metric in names)
    return {
        "type": "scattergl" if len(points) > MANY_POINTS else "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": x,
        "y": y,
        "customdata": [[point.trial, point.read_step] for point in points],
        "hovertemplate": f"{names[1]} %{{y}}, {names[0]} %{{x}}<br>%{{text}}<extra></extra>",
        "marker": marker,
    }


def axis(metric: str, **more: Any) -> Chart:
    """Returns the axis of a metric."""
    return {"title": {"text": SHOWN[metric].label}, **more}


def framed(metric: str, values: Sequence[float], extra: Sequence[float] = ()) -> Chart:
    """Returns an axis that shows `values`, and `extra` where that does not more than double its span."""
    if not values:
        return axis(metric)
    low, high = min(values), max(values)
    is_log = low > 0 and high / low > LOG_RATIO
    scale = math.log10 if is_log else float
    near = [v for v in extra if (not is_log or v > 0) and _fits(scale(v), scale(low), scale(high))]
    first, last = scale(min([low, *near])), scale(max([high, *near]))
    margin = MARGIN * (last - first) or MARGIN * abs(last) or 1.0
    limits = [rounded(first - margin), rounded(last + margin)]
    return axis(metric, type="log" if is_log else "linear", range=limits)


def thinned(items: Sequence[T], most: int, always: Iterable[T] = ()) -> list[T]:
    """Returns at most so many of the items, evenly spread, and those that are always kept, in their order."""
    step = max(1, math.ceil(len(items) / most))
    kept = {id(item) for item in always}
    return [item for position, item in enumerate(items) if position % step == 0 or id(item) in kept]


def chart(data: Sequence[Chart], height: int, **layout: Any) -> Chart:
    """Returns a chart; what all have in common (fonts, colours, margins) is the page's."""
    return {"data": list(data), "layout": {"height": height, **layout}}


def tips(lines: Mapping[int, str]) -> dict[str, str]:
    """Returns the hover text of each trial, by its number as JSON has it."""
    return {str(number): plain(line) for number, line in lines.items()}


def _fits(value: float, low: float, high: float) -> bool:
    return max(high, value) - min(low, value) <= 2 * (high - low)
