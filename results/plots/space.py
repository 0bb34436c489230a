"""What the values do: importance, slices, parallel coordinates, and where the failures lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.analysis.history import at_epoch, fidelity
from results.analysis.importance import FRONT, LEAST_TRIALS, importances
from results.keys import Key, axes_of_keys
from results.metrics import METRICS
from results.plots.style import BLUE, GREY, ORANGE, PALE, SERIES, framed, legend, new_figure, sentence, single
from results.study import StudyResult
from results.views import short, value_text

COLUMNS = 3
NOT_SET = -0.14


def importance_figure(study: StudyResult) -> Figure:
    """Returns the importance of each key for each objective and for the front, by PED-ANOVA."""
    found = importances(study)
    figure, axes = single(height=1.2 + 0.3 * len(found.order()) if found.shares else 3.0)
    if not found.shares:
        sentence(axes, f"importance needs {LEAST_TRIALS} trials, but got {found.num_trials}")
        return figure
    thick = 0.8 / len(found.shares)
    for place, (color, (target, shares)) in enumerate(zip((BLUE, *SERIES), found.shares.items(), strict=False)):
        rows = [row + thick * (place - (len(found.shares) - 1) / 2) for row in range(len(shares))]
        name = "the front" if target == FRONT else target
        axes.barh(rows, [100 * shares[key] for key in found.order()], thick, color=color, label=f"for {name}")
    axes.set_yticks(range(len(found.order())), found.order())
    axes.invert_yaxis()
    axes.set(xlabel=f"Importance (%), {found.num_trials} trials after {found.epoch} of {study.epochs} epochs")
    legend(axes)
    return figure


def slices_figure(study: StudyResult, metric: str | None = None) -> Figure:
    """Returns a metric, by default the first objective, against each key, for trials of equal training."""
    name = metric or next(iter(study.objectives))
    rows, keys = at_epoch(study, fidelity(study)), axes_of_keys(study)
    if not rows:
        return _nothing("no trials that can be compared yet")
    front = {point.trial for point in study.front()}
    height = math.ceil(len(keys) / COLUMNS)
    figure = new_figure(height=0.6 + 1.9 * height)
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(height, COLUMNS, place)
        framed(axes)
        for is_front, color in ((False, GREY), (True, BLUE)):
            own = [(t, m) for t, m in rows if (t.number in front) == is_front and key.name in t.params]
            x = [_place(key, trial.params[key.name]) for trial, _ in own]
            axes.scatter(x, [metrics[name] for _, metrics in own], s=9, color=color, alpha=0.8)
        _ticks(axes, key)
        axes.set(xlabel=key.name, ylabel=METRICS[name].label.split(" (")[0] if place % COLUMNS == 1 else "")
    return figure


def parallel_figure(study: StudyResult) -> Figure:
    """Returns a line for each trial of equal training through its values and objectives; the front's are orange."""
    rows, keys = at_epoch(study, fidelity(study)), axes_of_keys(study)
    if not rows:
        return _nothing("no trials that can be compared yet")
    metrics = {name: [values[name] for _, values in rows] for name in study.objectives}
    keys = [*keys, *(Key(name, name, min(values), max(values)) for name, values in metrics.items())]
    front = {point.trial for point in study.front()}
    figure, axes = single(height=4.4)
    first = Key("", "", *_span(next(iter(metrics.values()))))
    for trial, values in sorted(rows, key=lambda row: row[0].number in front):
        heights = [_height(key, {**values, **trial.params}) for key in keys]
        shade = first.position(values[next(iter(study.objectives))]) or 0.0
        color = ORANGE if trial.number in front else colormaps["Blues"](0.2 + 0.7 * shade)
        axes.plot(range(len(keys)), heights, color=color, linewidth=1.6 if trial.number in front else 0.7)
    for column, key in enumerate(keys):
        ends = (value_text(key.options[0]), value_text(key.options[-1])) if key.options else _ends(key)
        for height, text, side in zip((-0.02, 1.02), ends, ("top", "bottom"), strict=True):
            axes.text(column + 0.04, height, text, va=side, fontsize=7)
    axes.set_xticks(range(len(keys)), [key.name for key in keys], rotation=30, ha="right")
    axes.set(yticks=[], ylim=(NOT_SET - 0.04, 1.1))
    axes.spines["left"].set_visible(False)
    return figure


def failures_figure(study: StudyResult) -> Figure:
    """Returns where in the range of each key the failed trials lie, by class, and the others behind them."""
    keys = axes_of_keys(study)
    classes = sorted({trial.failure_class or "error" for trial in study.select("failed")})
    if not classes:
        return _nothing("no trial failed")
    figure, axes = single(height=1.2 + 0.34 * len(keys))
    groups: list[tuple[str, str, Sequence[Any]]] = [
        ("not failed", PALE, [trial for trial in study.trials if trial.state != "failed"])
    ]
    for color, name in zip(SERIES * len(classes), classes, strict=False):
        groups.append((name, color, [t for t in study.select("failed") if (t.failure_class or "error") == name]))
    for place, (name, color, trials) in enumerate(groups):
        shift = 0.5 * (place / len(groups) - 0.4)
        spots = [(_place_unit(k, t), row + shift) for row, k in enumerate(keys) for t in trials if k.name in t.params]
        x, y = zip(*spots, strict=True) if spots else ((), ())
        axes.scatter(x, y, s=12, color=color, label=f"{name} ({len(trials)})", alpha=0.8)
    axes.set_yticks(range(len(keys)), [key.name for key in keys])
    axes.invert_yaxis()
    axes.set_xticks([0, 0.5, 1], ["low end", "middle", "high end"])
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _nothing(text: str) -> Figure:
    figure, axes = single(height=3.0)
    sentence(axes, text)
    return figure


def _place(key: Key, value: Any) -> float:
    if key.options:
        index = key.index(value)
        return math.nan if index is None else float(index)
    return float(value)


def _place_unit(key: Key, trial: Any) -> float:
    position = key.position(trial.params[key.name])
    return math.nan if position is None else position


def _height(key: Key, values: dict[str, Any]) -> float:
    position = key.position(values[key.name]) if key.name in values else None
    return NOT_SET if position is None else position


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _ends(key: Key) -> tuple[str, str]:
    return short(key.low), short(key.high)


def _ticks(axes: Axes, key: Key) -> None:
    if key.options:
        axes.set_xticks(range(len(key.options)), [value_text(option) for option in key.options])
    elif key.is_log:
        axes.set_xscale("log")
        marks = [key.low, math.sqrt(key.low * key.high), key.high]
        axes.set_xticks(marks, [short(mark) for mark in marks])
        axes.set_xticks([], minor=True)
    elif key.is_whole:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
