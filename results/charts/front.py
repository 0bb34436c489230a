"""Chart of the front: accuracy against each cost, with all read-outs, stopped trials and published results."""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.front import (
    MetricPair,
    excluded_points,
    front_line,
    has_finite,
    highlighted_points,
    plot_axes,
    stopped_points,
    unconfirmed_points,
)
from results.analysis.references import Reference, published
from results.charts.style import LABELS, Chart, Color, Tabs, chart, escape, fitted_axis, markers, round_number, scatter
from results.study import FrontPoint, StudyResult

COSTS = ("spike_rate", "synops", "energy_mj")
MEMORY, ANN = "energy_memory_mj", "energy_ann_mj"
SYMBOLS = {
    "knee": {"symbol": "star", "size": 17, "color": LABELS["knee"]},
    "best": {"symbol": "triangle-up", "size": 13, "color": LABELS["best"]},
    "cheapest": {"symbol": "square", "size": 11, "color": LABELS["cheapest"]},
}
OUTLINE = {"color": Color.PAPER, "width": 1}
EDGE = 0.985
"""Horizontal position of a published accuracy without a cost, as a share of the chart's width."""


def front_charts(study: StudyResult) -> Tabs:
    """Returns a chart of the first objective against each cost."""
    cost, objective = plot_axes(study)
    memory = [MEMORY] if any(has_finite(point, (MEMORY, ANN)) for point in study.points()) else []
    costs = dict.fromkeys([cost, *list(study.objectives)[1:], *COSTS, *memory])
    return {name: _front(study, (name, objective)) for name in costs if name != objective}


def _front(study: StudyResult, names: MetricPair) -> Chart:
    points = [point for point in study.points() if has_finite(point, names)]
    members = [point for point in study.front() if has_finite(point, names)]
    stopped, excluded = stopped_points(study, names), excluded_points(study, names)
    unconfirmed = unconfirmed_points(study, names)
    references = published(study) if names[1] == "accuracy" else []
    ann = _quantised_anns(study, names)
    data = [
        markers(stopped, names, f"stopped early ({len(stopped)})", color=Color.PALE, size=7, symbol="circle-open"),
        markers(excluded, names, f"ruled out ({len(excluded)})", color=Color.PALE, size=7, symbol="x-thin-open"),
        markers(
            unconfirmed, names, f"not confirmed ({len(unconfirmed)})", color=Color.PALE, size=6, symbol="diamond-open"
        ),
        markers(points, names, f"all read-outs ({len(points)})", color=Color.GREY, size=6),
        _staircase(study, names),
        markers(members, names, f"front ({len(members)})", color=Color.BLUE, size=10, line=OUTLINE),
        *(
            markers([point], names, f"{label} {point.key}", **SYMBOLS[label], line=OUTLINE)
            for label, point in highlighted_points(study).items()
            if has_finite(point, names)
        ),
        _seeds(points, names),
        *_references(references, names),
        *ann,
    ]
    costs = [reference.metrics[names[0]] for reference in references if names[0] in reference.metrics]
    costs += [cost for trace in ann for cost in trace["x"]]
    x_values, y_values = ([end for point in points or stopped for end in point.interval(name)] for name in names)
    x_axis, y_axis = fitted_axis(names[0], x_values, costs), fitted_axis(names[1], y_values, _accuracies(references))
    overlay = {"overlaying": "x", "range": [0, 1], "visible": False, "fixedrange": True}
    return chart(data, 560, xaxis=x_axis, yaxis=y_axis, xaxis2=overlay)


def _staircase(study: StudyResult, names: MetricPair) -> Chart:
    """The points that are non-dominated in these two metrics; the study's front may differ."""
    line = front_line(study, names)
    x, y = ([point.metrics[name] for point in line] for name in names)
    style = {"shape": "hv", "color": Color.BLUE, "width": 2}
    return scatter("", x, y, "lines", line=style, hoverinfo="skip", showlegend=False)


def _seeds(points: Sequence[FrontPoint], names: MetricPair) -> Chart:
    """Standard deviations of the points that are means over seeds."""
    repeated = [point for point in points if point.seeds > 1]
    trace = markers(repeated, names, "mean and deviation over seeds", color=Color.INK, size=5, symbol="diamond")
    for bars, name in zip(("error_x", "error_y"), names, strict=True):
        ends = [(point.metrics[name], *point.interval(name)) for point in repeated]
        above = [round_number(high - value) for value, _, high in ends]
        below = [round_number(value - low) for value, low, _ in ends]
        style = {"color": Color.INK, "thickness": 1.2, "width": 4}
        trace[bars] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **style}
    return trace


def _references(references: Sequence[Reference], names: MetricPair) -> list[Chart]:
    """Published results: at their cost if it is known, else at the right edge."""
    placed = [r for r in references if names[0] in r.metrics]
    others = [r for r in references if names[0] not in r.metrics]
    costs = [r.metrics[names[0]] for r in placed]
    at_edge = _reference_trace(others, [EDGE] * len(others), "published, cost not stated", "diamond-wide-open")
    return [_reference_trace(placed, costs, "published, test set", "diamond-open"), at_edge | {"xaxis": "x2"}]


def _reference_trace(references: Sequence[Reference], x: Sequence[float], name: str, symbol: str) -> Chart:
    return scatter(
        name,
        x,
        _accuracies(references),
        text=[f"{escape(r.name)}<br>{escape(r.source)}" for r in references],
        hovertemplate="accuracy %{y}<br>%{text}<extra></extra>",
        marker={"symbol": symbol, "size": 9, "color": Color.ORANGE},
    )


def _accuracies(references: Sequence[Reference]) -> list[float]:
    return [reference.metrics["accuracy"] for reference in references]


def _quantised_anns(study: StudyResult, names: MetricPair) -> list[Chart]:
    """The front's points as quantised ANNs of the same shape, with memory traffic counted in the same way."""
    if names[0] != MEMORY:
        return []
    line = [point for point in front_line(study, names) if ANN in point.metrics]
    name = "the front as quantised ANNs"
    trace = markers(line, (ANN, names[1]), name, color=Color.ORANGE, size=7, symbol="circle-open")
    return [trace | {"mode": "lines+markers", "line": {"color": Color.ORANGE, "dash": "dash", "width": 1.5}}]
