"""Draws the front of a study: every full-fidelity read-out, the stopped trials, the front and its knee."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from config.files import write_atomic
from results.analysis.references import spreads
from results.metrics import METRICS
from results.plots.style import BLUE, GREY, INK, ORANGE, PALE, framed, new_figure, sentence
from results.study import FrontPoint, StudyResult
from results.views import Names, axes_of, front_line, short, stopped_points

LOG_RATIO = 100.0
"""An axis whose largest value is this many times its smallest is logarithmic."""

MARGIN = 0.06
"""Free space around the points, as a share of their span."""
MANY = 1e4
"""Values from here on are written with a prefix: 1.5 M."""


def front_figure(study: StudyResult) -> Figure:
    """Returns the figure of the study's first two objectives, the first one upwards.

    The view is that of the full-fidelity points; the legend counts the stopped trials that lie outside it.
    """
    names = axes_of(study)
    figure = new_figure()
    axes = figure.add_subplot()
    points = study.points()
    stopped = stopped_points(study, names)
    _frame(axes, points or stopped, names)
    _draw_stopped(axes, stopped, names)
    _dots(axes, points, names, color=GREY, s=16, linewidths=0, label=f"all read-outs at full fidelity ({len(points)})")
    _draw_front(axes, study, names)
    name = study.name if len(study.name) <= 30 else f"{study.name[:29]}\u2026"
    axes.set_title(name, loc="left", fontsize=11, color=INK)
    if points or stopped:
        figure.legend(
            loc="outside lower center", ncols=4, columnspacing=1.2, handletextpad=0.2, frameon=False, fontsize=9
        )
    return figure


def write_front_png(study: StudyResult, path: str | os.PathLike[str]) -> None:
    """Writes the figure of the front as a PNG."""
    picture = io.BytesIO()
    front_figure(study).savefig(picture, format="png", metadata={"Software": None})
    write_atomic(Path(path), picture.getvalue())


def _frame(axes: Axes, shown: Sequence[FrontPoint], names: Names) -> None:
    for name, side in zip(names, ("x", "y"), strict=True):
        values = [point.metrics[name] for point in shown]
        axes.set(**{f"{side}label": METRICS[name].label})
        if values:
            log = min(values) > 0 and max(values) / min(values) > LOG_RATIO
            axes.set(**{f"{side}scale": "log" if log else "linear", f"{side}lim": _limits(values, log)})
        if max(values, default=0.0) >= MANY:
            (axes.xaxis if side == "x" else axes.yaxis).set_major_formatter(EngFormatter())
    framed(axes)


def _limits(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** MARGIN
        return low / factor, high * factor
    margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    return low - margin, high + margin


def _draw_stopped(axes: Axes, stopped: Sequence[FrontPoint], names: Names) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inside = [
        point
        for point in stopped
        if left <= point.metrics[names[0]] <= right and bottom <= point.metrics[names[1]] <= top
    ]
    hidden = f", {len(stopped) - len(inside)} out of view" if len(inside) < len(stopped) else ""
    style = {"facecolors": "none", "edgecolors": PALE, "s": 18, "label": f"stopped early ({len(stopped)}{hidden})"}
    _dots(axes, stopped, names, **style)


def _draw_front(axes: Axes, study: StudyResult, names: Names) -> None:
    front, best = study.front(), study.knee()
    if best is None:
        sentence(axes, "no point at full fidelity yet")
        return
    line = front_line(study, names)
    x, y = ([point.metrics[name] for point in line] for name in names)
    axes.step(x, y, where="post", color=BLUE, linewidth=1.4, zorder=2)
    label = f"front ({len(front)})"
    _dots(axes, front, names, color=BLUE, s=34, edgecolors="white", linewidths=0.8, zorder=3, label=label)
    _dots(axes, [best], names, color=ORANGE, s=170, marker="*", edgecolors="white", zorder=4, label="knee")
    _draw_spreads(axes, study, names)
    axes.set_title(_name(best, study), loc="right", fontsize=9, color=ORANGE)


def _draw_spreads(axes: Axes, study: StudyResult, names: Names) -> None:
    """Mean and standard deviation of the points that were trained with several seeds."""
    rows = [row for row in spreads(study).values() if set(names) <= row.keys()]
    if rows:
        x, y = ([row[name].mean for row in rows] for name in names)
        dx, dy = ([row[name].deviation for row in rows] for name in names)
        axes.errorbar(x, y, yerr=dy, xerr=dx, fmt="D", ms=3.5, color=INK, linewidth=0.9, label="mean over seeds")


def _name(point: FrontPoint, study: StudyResult) -> str:
    """The knee in words: `knee t0031 read at step 2 of 4: accuracy 93.1, spike_rate 0.12`."""
    step = study.trial(point.trial).config.get("step")
    early = "" if point.read_step == step else f" read at step {point.read_step} of {step}"
    return f"knee {point.key}{early}: " + ", ".join(f"{n} {short(point.metrics[n])}" for n in study.objectives)


def _dots(axes: Axes, points: Sequence[FrontPoint], names: Names, **style: Any) -> None:
    if points:
        x, y = ([point.metrics[name] for point in points] for name in names)
        axes.scatter(x, y, **style)
