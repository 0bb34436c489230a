"""The front: accuracy against each cost, every read-out, stopped trials apart, and what others published."""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.references import Reference, Spread, published, spreads
from results.charts.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PAPER,
    PURPLE,
    Chart,
    Tabs,
    chart,
    dots,
    framed,
    plain,
    rounded,
)
from results.study import FrontPoint, StudyResult
from results.views import Names, axes_of, chosen, front_line, is_measured, ruled_out, stopped_points

COSTS = ("spike_rate", "synops", "energy_mj")
MEMORY, ANN = "energy_memory_mj", "energy_ann_mj"
MARKS = {"knee": ("star", 17, ORANGE), "best": ("triangle-up", 13, GREEN), "cheapest": ("square", 11, PURPLE)}
EDGE = 0.985
"""Where on the width of the chart a published accuracy stands whose cost is not known."""


def front_charts(study: StudyResult) -> Tabs:
    """Returns a chart for each cost that the study's first objective is held against."""
    first, up = axes_of(study)
    others = dict.fromkeys([first, *list(study.objectives)[1:], *COSTS])
    memory = [MEMORY] if any(is_measured(point, (MEMORY, ANN)) for point in study.points()) else []
    return {name: _front(study, (name, up)) for name in [*others, *memory] if name != up}


def _front(study: StudyResult, names: Names) -> Chart:
    points = [point for point in study.points() if is_measured(point, names)]
    stopped = stopped_points(study, names)
    outside = ruled_out(study, names)
    known = published(study) if names[1] == "accuracy" else []
    shown = points or stopped
    y_axis = framed(names[1], [p.metrics[names[1]] for p in shown], [r.metrics[names[1]] for r in known])
    ann = _ann(study, names)
    costs = [r.metrics[names[0]] for r in known if names[0] in r.metrics] + [x for trace in ann for x in trace["x"]]
    x_axis = framed(names[0], [p.metrics[names[0]] for p in shown], costs)
    hollow = {"color": PALE, "size": 7, "symbol": "circle-open"}
    data = [
        dots(stopped, names, f"stopped early ({len(stopped)})", **hollow),
        dots(outside, names, f"ruled out ({len(outside)})", color=PALE, size=7, symbol="x-thin-open"),
        dots(points, names, f"all read-outs ({len(points)})", color=GREY, size=6),
        *_line(study, names),
        *_marks(study, names),
        *_seeds(study, names),
        *_published(known, names),
        *ann,
    ]
    over = {"overlaying": "x", "range": [0, 1], "visible": False, "fixedrange": True}
    return chart([trace for trace in data if trace["x"]], 560, xaxis=x_axis, yaxis=y_axis, xaxis2=over)


def _line(study: StudyResult, names: Names) -> list[Chart]:
    """The staircase in these two metrics, and the members of the study's own front on it or beside it."""
    line = front_line(study, names)
    members = [point for point in study.front() if is_measured(point, names)]
    stairs = {
        "type": "scatter",
        "mode": "lines",
        "x": [rounded(point.metrics[names[0]]) for point in line],
        "y": [rounded(point.metrics[names[1]]) for point in line],
        "line": {"shape": "hv", "color": BLUE, "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    edge = {"color": PAPER, "width": 1}
    return [stairs, dots(members, names, f"front ({len(members)})", color=BLUE, size=10, line=edge)]


def _marks(study: StudyResult, names: Names) -> list[Chart]:
    traces = []
    for word, point in chosen(study).items():
        symbol, size, color = MARKS[word]
        if is_measured(point, names):
            line = {"color": PAPER, "width": 1}
            traces.append(dots([point], names, f"{word} {point.key}", symbol=symbol, size=size, color=color, line=line))
    return traces


def _seeds(study: StudyResult, names: Names) -> list[Chart]:
    """Mean and standard deviation over seeds, beside the one training that the search saw."""
    rows = [(key, row) for key, row in spreads(study).items() if set(names) <= row.keys()]
    points = [FrontPoint(trial, step, {n: row[n].mean for n in names}, {}) for (trial, step), row in rows]
    trace = dots(points, names, "mean and deviation over seeds", color=INK, size=7, symbol="diamond")
    for side, name in zip(("error_x", "error_y"), names, strict=True):
        trace[side] = _bars([row[name] for _, row in rows])
    return [trace]


def _bars(values: Sequence[Spread]) -> Chart:
    bars = [rounded(value.deviation) for value in values]
    return {"type": "data", "array": bars, "color": INK, "thickness": 1.2, "width": 4}


def _published(known: Sequence[Reference], names: Names) -> list[Chart]:
    """Published results: diamonds where their cost is known, else at the right edge by their accuracy."""
    placed = [r for r in known if names[0] in r.metrics]
    others = [r for r in known if names[0] not in r.metrics]
    full = _named(placed, [r.metrics[names[0]] for r in placed], names[1], "published, test set")
    edge = _named(others, [EDGE] * len(others), names[1], "published, cost not stated")
    return [full, {**edge, "xaxis": "x2", "marker": {**edge["marker"], "symbol": "diamond-wide-open"}}]


def _ann(study: StudyResult, names: Names) -> list[Chart]:
    """The best points where they would stand as quantised ANNs of the same shape, memory traffic counted alike."""
    if names[0] != MEMORY:
        return []
    line = [point for point in front_line(study, names) if ANN in point.metrics]
    trace = dots(line, (ANN, names[1]), "the front as quantised ANNs", color=ORANGE, size=7, symbol="circle-open")
    return [{**trace, "mode": "lines+markers", "line": {"color": ORANGE, "dash": "dash", "width": 1.5}}]


def _named(references: Sequence[Reference], x: Sequence[float], up: str, name: str) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": [rounded(value) for value in x],
        "y": [rounded(r.metrics[up]) for r in references],
        "text": [f"{plain(r.name)}<br>{plain(r.source)}" for r in references],
        "hovertemplate": f"{up} %{{y}}<br>%{{text}}<extra></extra>",
        "marker": {"symbol": "diamond-open", "size": 9, "color": ORANGE},
    }
