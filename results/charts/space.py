"""Charts of the search space: importance, slices, parallel coordinates, and failures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from config.distributions import Float
from results.analysis.history import trials_at_epoch
from results.analysis.importance import FRONT, Importance
from results.charts.style import MARGIN, Chart, Color, Tabs, chart, escape, round_number, scatter, subsample
from results.charts.ticks import ticks
from results.keys import Key, axes_of_keys
from results.metrics import format_number, format_param
from results.study import StudyResult, TrialResult

MAX_TRIALS = 400
MAX_LINES = 300
FEW_LINES = 25
COLUMNS = 3
INACTIVE = -0.14
"""Height in parallel coordinates of a key that is not active in the trial."""

SEQUENCE = tuple(f"var(--seq{step})" for step in range(5))
TARGETS = (Color.BLUE, Color.ORANGE, Color.GREEN, Color.PURPLE, Color.GREY)
FAILURES = (Color.RED, Color.ORANGE, Color.PURPLE, Color.GREEN, Color.BLUE)
Row = tuple[TrialResult, dict[str, float]]


def importance_chart(found: Importance) -> Chart:
    """Returns a bar for each key and target, with the most important keys over all targets on top."""
    keys = found.order()
    data = [
        scatter(
            "for the front" if target == FRONT else f"for {target}",
            [100 * shares[key] for key in keys],
            keys,
            type="bar",
            orientation="h",
            marker={"color": color},
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
        for (target, shares), color in zip(found.shares.items(), TARGETS, strict=False)
    ]
    height = 130 + len(keys) * (12 + 11 * len(found.shares))
    rows = {"autorange": "reversed", "type": "category"}
    return chart(data, height, xaxis={"title": {"text": "Importance (%)"}}, yaxis=rows)


def slice_charts(study: StudyResult, epoch: int) -> Tabs:
    """Returns for each objective its values at an epoch against each key."""
    rows, on_front = _sample_rows(study, epoch, MAX_TRIALS)
    return {metric: _slices(axes_of_keys(study), rows, on_front, metric) for metric in study.objectives} if rows else {}


def parallel_chart(study: StudyResult, epoch: int) -> Chart:
    """Returns a line for each trial through its values and objectives; darker is better in the first objective."""
    rows, on_front = _sample_rows(study, epoch, MAX_LINES)
    keys = [*axes_of_keys(study), *(_metric_key(name, rows) for name in study.objectives)]
    first = next(iter(study.objectives))
    ordered = sorted(rows, key=lambda row: row[1][first], reverse=study.direction(first) == "minimize")
    size = math.ceil(len(ordered) / len(SEQUENCE)) or 1
    groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    data = [
        _lines(keys, group, f"{first} {_range(group, first)}", color, 1.2)
        for group, color in zip(groups, SEQUENCE[-len(groups) :], strict=False)
    ]
    members = [row for row in rows if row[0].number in on_front]
    data.append(_lines(keys, members, "the front's trials", Color.ORANGE, 2.4))
    columns = range(len(keys))
    names = {"tickvals": list(columns), "ticktext": [escape(key.name) for key in keys]}
    rule = {"type": "line", "y0": INACTIVE, "y1": 1, "line": {"color": Color.GREY, "width": 1}}
    layout = {
        "xaxis": {**names, "zeroline": False, "showgrid": False},
        "yaxis": {"visible": False, "range": [INACTIVE - 0.06, 1.08]},
        "annotations": [label for column, key in enumerate(keys) for label in _tick_labels(column, key)],
        "shapes": [{**rule, "x0": column, "x1": column} for column in columns],
    }
    return chart(data, 520, **layout)


def failure_chart(study: StudyResult) -> Chart:
    """Returns the position of the failed trials in the range of each key, by class, and of the other trials."""
    failures = study.failures()
    if not failures:
        return chart([], 0)
    keys = axes_of_keys(study)
    others = [trial for trial in study.trials if trial.state != "failed"]
    data = [_strip(keys, others, "not failed", -0.2, color=Color.PALE, size=7)]
    for index, (failure_class, trials) in enumerate(failures.items()):
        color, shift = FAILURES[index % len(FAILURES)], 0.1 + 0.25 * index / len(failures)
        data.append(_strip(keys, trials, f"{failure_class} ({len(trials)})", shift, color=color, size=8))
    rows = {"tickvals": list(range(len(keys))), "ticktext": [escape(key.name) for key in keys]}
    rows |= {"range": [len(keys) - 0.4, -0.6], "zeroline": False}
    ends = {"tickvals": [0, 0.5, 1], "ticktext": ["low end", "middle", "high end"], "range": [-0.04, 1.04]}
    return chart(data, 130 + 34 * len(keys), xaxis=ends, yaxis=rows)


def _sample_rows(study: StudyResult, epoch: int, limit: int) -> tuple[list[Row], set[int]]:
    """Returns `limit` trials with their metrics at an epoch, plus all of the front, and the front's numbers."""
    rows = trials_at_epoch(study, epoch)
    on_front = {point.trial for point in study.front()}
    return subsample(rows, limit, [row for row in rows if row[0].number in on_front]), on_front


def _slices(keys: Sequence[Key], rows: Sequence[Row], on_front: set[int], metric: str) -> Chart:
    height = math.ceil(len(keys) / COLUMNS)
    layout: dict[str, Any] = {"grid": {"rows": height, "columns": COLUMNS, "pattern": "independent", "ygap": 0.32}}
    data = []
    for index, key in enumerate(keys):
        number = "" if index == 0 else str(index + 1)
        layout[f"xaxis{number}"] = _slice_axis(key)
        layout[f"yaxis{number}"] = {"title": {"text": metric if index % COLUMNS == 0 else ""}}
        with_key = [row for row in rows if key.name in row[0].params]
        front, others = ([row for row in with_key if (row[0].number in on_front) == wanted] for wanted in (True, False))
        for name, group, color in (("other trials", others, Color.GREY), ("on the front", front, Color.BLUE)):
            axes = {"xaxis": f"x{number}", "yaxis": f"y{number}", "legendgroup": name, "showlegend": index == 0}
            data.append(_slice(key, group, metric, name, color) | axes)
    return chart(data, 120 + 230 * height, **layout)


def _slice(key: Key, rows: Sequence[Row], metric: str, name: str, color: Color) -> Chart:
    values = [trial.params[key.name] for trial, _ in rows]
    return scatter(
        name,
        map(format_param, values) if key.options else map(float, values),
        [metrics[metric] for _, metrics in rows],
        customdata=_read_outs(trial for trial, _ in rows),
        hovertemplate=f"{escape(key.name)} %{{x}}: {metric} %{{y}}<br>%{{text}}<extra></extra>",
        marker={"color": color, "size": 6, "opacity": 0.8},
    )


def _slice_axis(key: Key) -> Chart:
    title = {"title": {"text": escape(key.name), "standoff": 4}}
    if key.range is None:
        names = [escape(format_param(option)) for option in key.options]
        return {**title, "type": "category", "categoryorder": "array", "categoryarray": names}
    shown = ticks(key.range)
    low, high = (math.log10(end) if key.range.log else float(end) for end in (key.range.low, key.range.high))
    margin = MARGIN * (high - low) or MARGIN
    limits = [round_number(low - margin), round_number(high + margin)]
    labels = [format_number(tick) for tick in shown]
    kind = "log" if key.range.log else "linear"
    return {**title, "type": kind, "range": limits, "tickvals": shown, "ticktext": labels}


def _lines(keys: Sequence[Key], rows: Sequence[Row], name: str, color: str, width: float) -> Chart:
    """One line for each row as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    customdata: list[list[int] | None] = []
    for trial, metrics in rows:
        x += [*range(len(keys)), None]
        y += [*(_height(key, {**metrics, **trial.params}) for key in keys), None]
        customdata += [*(_read_outs([trial]) * len(keys)), None]
    return scatter(
        name,
        x,
        y,
        "lines",
        line={"color": color, "width": width},
        opacity=0.85 if len(rows) < FEW_LINES else 0.5,
        customdata=customdata,
        hovertemplate="%{text}<extra></extra>",
    )


def _height(key: Key, values: Mapping[str, Any]) -> float:
    position = key.position(values[key.name]) if key.name in values else None
    return INACTIVE if position is None else position


def _metric_key(name: str, rows: Sequence[Row]) -> Key:
    values = [metrics[name] for _, metrics in rows] or [0.0]
    return Key(name, name, Float(min(values), max(values)))


def _tick_labels(column: int, key: Key) -> list[Chart]:
    if key.range is None:
        ticks = [(key.position(option), format_param(option)) for option in key.options]
    else:
        ticks = [(0.0, format_number(key.range.low)), (1.0, format_number(key.range.high))]
    style = {"xref": "x", "yref": "y", "showarrow": False, "xanchor": "left", "xshift": 3, "font": {"size": 11}}
    return [{"x": column, "y": y, "text": escape(text), **style} for y, text in ticks if y is not None]


def _range(rows: Sequence[Row], metric: str) -> str:
    values = [metrics[metric] for _, metrics in rows]
    return f"{format_number(min(values))} to {format_number(max(values))}"


def _strip(keys: Sequence[Key], trials: Sequence[TrialResult], name: str, shift: float, **marker: Any) -> Chart:
    """The positions of trials in the range of each key; the keys are rows, and `shift` separates the traces."""
    found = [
        (position, row + shift, trial)
        for row, key in enumerate(keys)
        for trial in subsample(trials, MAX_TRIALS)
        if key.name in trial.params and (position := key.position(trial.params[key.name])) is not None
    ]
    return scatter(
        name,
        [position for position, _, _ in found],
        [height for _, height, _ in found],
        customdata=_read_outs(trial for _, _, trial in found),
        hovertemplate="%{text}<extra></extra>",
        marker={"opacity": 0.75, **marker},
    )


def _read_outs(trials: Iterable[TrialResult]) -> list[list[int]]:
    """Returns what identifies each point's hover text: the trial and its read-out."""
    return [[trial.number, trial.read_step] for trial in trials]
