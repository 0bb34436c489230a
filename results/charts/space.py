"""What the values do: importance, slices, parallel coordinates, and where the failures lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.analysis.history import at_epoch
from results.analysis.importance import Importance
from results.charts.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SEQUENCE,
    Chart,
    Tabs,
    chart,
    plain,
    rounded,
    thinned,
)
from results.keys import Key, axes_of_keys
from results.metrics import METRICS
from results.study import StudyResult, TrialResult
from results.views import short, value_text

MOST_TRIALS = 400
MOST_LINES = 300
CROWDED = 25
COLUMNS = 3
NOT_SET = -0.14
"""Where parallel coordinates put a key that the trial's other choices leave out."""

FAILURES = (RED, ORANGE, PURPLE, GREEN, BLUE)
Row = tuple[TrialResult, dict[str, float]]


def importance_chart(found: Importance) -> Chart:
    """Returns a bar for each key and target, the key that matters most over all targets on top."""
    order = found.order()
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": plain(f"for {target}" if target in METRICS else "for the front"),
            "x": [rounded(100 * found.shares[target][key]) for key in order],
            "y": [plain(key) for key in order],
            "marker": {"color": color},
            "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>",
        }
        for target, color in zip(found.shares, (BLUE, ORANGE, GREEN, PURPLE, GREY), strict=False)
    ]
    height = 130 + len(order) * (12 + 11 * len(found.shares))
    rows = {"autorange": "reversed", "type": "category"}
    return chart(data, height, xaxis={"title": {"text": "Importance (%)"}}, yaxis=rows)


def slice_charts(study: StudyResult, epoch: int) -> Tabs:
    """Returns, for each objective, its values against each key, for the trials as of one epoch."""
    rows = at_epoch(study, epoch)
    front = {point.trial for point in study.front()}
    kept = thinned(rows, MOST_TRIALS, [row for row in rows if row[0].number in front])
    return {metric: _slices(study, kept, front, metric) for metric in study.objectives} if kept else {}


def parallel_chart(study: StudyResult, epoch: int) -> Chart:
    """Returns a line a trial through its values and objectives; stronger colours mean a better first objective."""
    rows = at_epoch(study, epoch)
    front = {point.trial for point in study.front()}
    kept = thinned(rows, MOST_LINES, [row for row in rows if row[0].number in front])
    keys = [*axes_of_keys(study), *(_metric_key(name, kept) for name in study.objectives)]
    first = next(iter(study.objectives))
    ordered = sorted(kept, key=lambda row: row[1][first], reverse=study.direction(first) == "minimize")
    size = math.ceil(len(ordered) / len(SEQUENCE)) or 1
    groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    data = [
        _lines(keys, group, f"{first} {_span(group, first)}", color, 1.2)
        for group, color in zip(groups, SEQUENCE[-len(groups) :], strict=False)
    ]
    members = [row for row in kept if row[0].number in front]
    data.append(_lines(keys, members, "the front's trials", ORANGE, 2.4))
    notes = [note for column, key in enumerate(keys) for note in _ticks(column, key)]
    names = {"tickvals": list(range(len(keys))), "ticktext": [plain(key.name) for key in keys], "zeroline": False}
    rods = [_rod(column) for column in range(len(keys))]
    hidden = {"visible": False, "range": [NOT_SET - 0.06, 1.08]}
    layout = {"xaxis": names | {"showgrid": False}, "yaxis": hidden, "annotations": notes, "shapes": rods}
    return chart([trace for trace in data if trace["x"]], 520, **layout)


def failure_chart(study: StudyResult) -> Chart:
    """Returns where in the range of each key the failed trials lie, by class, and the others behind them."""
    failed: dict[str, list[TrialResult]] = {}
    for trial in study.trials:
        if trial.state == "failed":
            failed.setdefault(trial.failure_class or "error", []).append(trial)
    if not failed:
        return chart([], 0)
    keys = axes_of_keys(study)
    others = thinned([trial for trial in study.trials if trial.state != "failed"], MOST_TRIALS)
    data = [_strip(keys, others, "not failed", -0.2, color=PALE, size=7)]
    for place, (name, trials) in enumerate(failed.items()):
        color, shift = FAILURES[place % len(FAILURES)], 0.1 + 0.25 * place / len(failed)
        data.append(_strip(keys, thinned(trials, MOST_TRIALS), f"{name} ({len(trials)})", shift, color=color, size=8))
    rows = {"tickvals": list(range(len(keys))), "ticktext": [plain(key.name) for key in keys]}
    ends = {"tickvals": [0, 0.5, 1], "ticktext": ["low end", "middle", "high end"], "range": [-0.04, 1.04]}
    rows |= {"range": [len(keys) - 0.4, -0.6], "zeroline": False}
    return chart(data, 130 + 34 * len(keys), xaxis=ends, yaxis=rows)


def _slices(study: StudyResult, rows: Sequence[Row], front: set[int], metric: str) -> Chart:
    keys = axes_of_keys(study)
    height = math.ceil(len(keys) / COLUMNS)
    layout: dict[str, Any] = {"grid": {"rows": height, "columns": COLUMNS, "pattern": "independent", "ygap": 0.32}}
    data = []
    for place, key in enumerate(keys, 1):
        suffix = "" if place == 1 else str(place)
        layout[f"xaxis{suffix}"] = _slice_axis(key)
        layout[f"yaxis{suffix}"] = {"title": {"text": metric if (place - 1) % COLUMNS == 0 else ""}}
        for is_front, color in ((False, GREY), (True, BLUE)):
            own = [row for row in rows if (row[0].number in front) == is_front and key.name in row[0].params]
            name = "on the front" if is_front else "other trials"
            trace = _slice(key, own, metric, name, color, place == 1)
            data.append({**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
    return chart([trace for trace in data if trace["x"]], 120 + 230 * height, **layout)


def _slice(key: Key, rows: Sequence[Row], metric: str, name: str, color: str, in_legend: bool) -> Chart:
    values = [trial.params[key.name] for trial, _ in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "showlegend": in_legend,
        "x": [plain(value_text(v)) if key.options else rounded(float(v)) for v in values],
        "y": [rounded(metrics[metric]) for _, metrics in rows],
        "customdata": [[trial.number, trial.read_step] for trial, _ in rows],
        "hovertemplate": f"{plain(key.name)} %{{x}}: {metric} %{{y}}<br>%{{text}}<extra></extra>",
        "marker": {"color": color, "size": 6, "opacity": 0.8},
    }


def _slice_axis(key: Key) -> Chart:
    title = {"title": {"text": plain(key.name), "standoff": 4}}
    if key.options:
        names = [plain(value_text(option)) for option in key.options]
        return {**title, "type": "category", "categoryorder": "array", "categoryarray": names}
    if key.is_log:
        marks = [key.low, math.sqrt(key.low * key.high), key.high]
        return {**title, "type": "log", "tickvals": marks, "ticktext": [short(mark) for mark in marks]}
    return {**title, "type": "linear", "nticks": 5}


def _lines(keys: Sequence[Key], rows: Sequence[Row], name: str, color: str, width: float) -> Chart:
    x: list[int | None] = []
    y: list[float | None] = []
    customdata: list[list[int] | None] = []
    for trial, metrics in rows:
        for column, key in enumerate(keys):
            x.append(column)
            y.append(_height(key, {**metrics, **trial.params}))
            customdata.append([trial.number, trial.read_step])
        x.append(None)
        y.append(None)
        customdata.append(None)
    look = {"mode": "lines", "line": {"color": color, "width": width}, "opacity": 0.85 if len(rows) < CROWDED else 0.5}
    hover = {"customdata": customdata, "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "name": plain(name), "x": x, "y": y, **look, **hover}


def _height(key: Key, values: Mapping[str, Any]) -> float:
    position = key.position(values[key.name]) if key.name in values else None
    return NOT_SET if position is None else float(rounded(position) or 0)


def _metric_key(name: str, rows: Sequence[Row]) -> Key:
    values = [metrics[name] for _, metrics in rows] or [0.0]
    return Key(name, name, min(values), max(values))


def _ticks(column: int, key: Key) -> list[Chart]:
    if key.options:
        marks = [(key.position(option), value_text(option)) for option in key.options]
    else:
        marks = [(0.0, short(key.low)), (1.0, short(key.high))]
    found = [(height, text) for height, text in marks if height is not None]
    look = {"xref": "x", "yref": "y", "showarrow": False, "xanchor": "left", "xshift": 3, "font": {"size": 11}}
    return [{"x": column, "y": height, "text": plain(text), **look} for height, text in found]


def _rod(column: int) -> Chart:
    return {"type": "line", "x0": column, "x1": column, "y0": NOT_SET, "y1": 1, "line": {"color": GREY, "width": 1}}


def _span(rows: Sequence[Row], metric: str) -> str:
    values = [metrics[metric] for _, metrics in rows]
    return f"{short(min(values))} to {short(max(values))}"


def _strip(keys: Sequence[Key], trials: Sequence[TrialResult], name: str, shift: float, **marker: Any) -> Chart:
    found = [
        (position, row + shift, trial, key)
        for row, key in enumerate(keys)
        for trial in trials
        if key.name in trial.params and (position := key.position(trial.params[key.name])) is not None
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": [rounded(position) for position, _, _, _ in found],
        "y": [rounded(height) for _, height, _, _ in found],
        "customdata": [[trial.number, trial.read_step] for _, _, trial, _ in found],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"opacity": 0.75, **marker},
    }
