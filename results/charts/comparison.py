"""Charts that compare studies: fronts in one plot, hypervolume, and attainment surfaces over repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from results import pareto
from results.analysis.attainment import attainment_surface
from results.analysis.comparison import Studies
from results.analysis.front import MetricPair, front_line, has_finite, plot_axes
from results.analysis.history import Progress, hypervolume_curve
from results.charts.front import COSTS
from results.charts.style import Chart, Color, Tabs, chart, escape, fitted_axis, markers, scatter, subsample
from results.metrics import product_unit
from results.study import FrontPoint, StudyResult

COLORS = (Color.BLUE, Color.ORANGE, Color.GREEN, Color.PURPLE, Color.RED, Color.GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot")
MAX_VOLUMES = 1000
Axis = Literal["epochs", "hours"]
TITLES: dict[Axis, str] = {"epochs": "Epochs trained", "hours": "Hours of the search"}


def front_comparison(studies: Studies) -> Tabs:
    """Returns the fronts of all studies against each cost."""
    first = next(iter(studies.values()))
    cost, objective = plot_axes(first)
    costs = dict.fromkeys([cost, *list(first.objectives)[1:], *COSTS])
    return {name: _fronts(studies, (name, objective)) for name in costs if name != objective}


def hypervolume_comparison(studies: Studies, reference: Mapping[str, float]) -> Tabs:
    """Returns the hypervolume of all studies over epochs and over hours, to the common reference point."""
    curves = {label: hypervolume_curve(study, reference) for label, study in studies.items()}
    unit = product_unit(next(iter(studies.values())).objectives)
    timed = {label: curve for label, curve in curves.items() if curve[0].hours is not None}
    return {
        "by epochs": _volumes(curves, list(studies), "epochs", unit),
        "by hours": _volumes(timed, list(studies), "hours", unit),
    }


def attainment_charts(groups: Sequence[Mapping[str, StudyResult]], first: StudyResult) -> Tabs:
    """Returns the attainment surfaces of groups of repeats in the first two objectives, in one chart."""
    if len(first.objectives) < 2 or not groups:
        return {}
    names = plot_axes(first)
    data, points = [], []
    for index, group in enumerate(groups):
        candidates = [[p for p in study.points() if has_finite(p, names)] for study in group.values()]
        points += [point for found in candidates for point in found]
        data += _surfaces(candidates, names, first, f"{', '.join(group)} ({len(group)} runs)", _style(index)[0])
    x, y = (fitted_axis(name, [point.metrics[name] for point in points]) for name in names)
    return {"": chart(data, 520, xaxis=x, yaxis=y)}


def _style(index: int) -> tuple[Color, str, str]:
    """Returns color, marker and dash of a study; further studies repeat colors with other markers and dashes."""
    return COLORS[index % len(COLORS)], SYMBOLS[index % len(SYMBOLS)], DASHES[index // len(COLORS) % len(DASHES)]


def _fronts(studies: Studies, names: MetricPair) -> Chart:
    data, points = [], []
    for index, (label, study) in enumerate(studies.items()):
        color, symbol, dash = _style(index)
        line = front_line(study, names)
        points += line
        trace = markers(line, names, f"{label} ({len(line)})", color=color, symbol=symbol, size=9)
        trace |= {"mode": "lines+markers", "line": {"shape": "hv", "color": color, "dash": dash, "width": 2}}
        trace["text"] = [escape(_describe(label, study, point)) for point in line]
        data.append(trace)
    x, y = (fitted_axis(name, [point.metrics[name] for point in points]) for name in names)
    return chart(data, 560, xaxis=x, yaxis=y)


def _describe(label: str, study: StudyResult, point: FrontPoint) -> str:
    step = study.trial(point.trial).config.get("step")
    return f"{label}: {point.key}, read after {point.read} of {step} steps"


def _volumes(curves: Mapping[str, Sequence[Progress]], labels: Sequence[str], by: Axis, unit: str) -> Chart:
    data = []
    for label, curve in curves.items():
        color, _, dash = _style(labels.index(label))
        shown = subsample(curve, MAX_VOLUMES, [curve[-1]])
        x = [point.epochs if by == "epochs" else point.hours for point in shown]
        line = {"shape": "hv", "color": color, "dash": dash, "width": 2}
        hover = f"{escape(label)}: %{{y}} at %{{x}}<extra></extra>"
        data.append(scatter(label, x, [p.hypervolume for p in shown], "lines", line=line, hovertemplate=hover))
    titles = {"xaxis": {"title": {"text": TITLES[by]}}, "yaxis": {"title": {"text": f"Hypervolume ({unit})"}}}
    return chart(data, 420, **titles)


def _surfaces(
    fronts: Sequence[Sequence[FrontPoint]], names: MetricPair, first: StudyResult, label: str, color: Color
) -> list[Chart]:
    """The surfaces that half of the runs, one run and every run attained."""
    directions = [first.direction(name) for name in names]
    rows = [pareto.minimised([[p.metrics[name] for name in names] for p in front], directions) for front in fronts]
    counts = {math.ceil(len(rows) / 2): ("half of the runs", 2.5, "solid")}
    counts.setdefault(1, ("the best run", 1.2, "dot"))
    counts.setdefault(len(rows), ("every run", 1.2, "dash"))
    found = []
    for count, (text, width, dash) in counts.items():
        corners = pareto.minimised(attainment_surface(rows, count), directions)
        line = {"shape": "hv", "color": color, "width": width, "dash": dash}
        name = f"{label}: attained by {text}"
        hover = f"{escape(name)}<br>%{{y}} at %{{x}}<extra></extra>"
        found.append(scatter(name, corners[:, 0], corners[:, 1], "lines", line=line, hovertemplate=hover))
    return found
