"""Matplotlib figures for a paper: front, learning curves, importance. Each function takes a study."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from config.files import write_atomic
from results.analysis.comparison import Studies, common_reference
from results.analysis.front import MetricPair, front_line, highlighted_trials, plot_axes, stopped_points
from results.analysis.history import hypervolume_curve
from results.analysis.importance import FRONT, MIN_TRIALS, importances
from results.charts.style import LOG_RATIO, MARGIN
from results.metrics import METRICS, format_number, product_unit
from results.study import FrontPoint, StudyResult
from results.study.constraints import empty_front

BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#d55e00", "#00875f", "#a2467f", "#c2262e"
GREY, PALE, INK = "#8795a1", "#aab4bf", "#1f2933"
LABELS = {"knee": ORANGE, "best": GREEN, "cheapest": PURPLE}
SERIES = (ORANGE, GREEN, PURPLE, BLUE, RED)
"""Colors that differ in lightness too, for print in grey and for color-blind readers."""

PREFIXED = 1e4
"""Axes with values from here on use unit prefixes: 1.5 M."""
MAX_TITLE = 30


def front_figure(study: StudyResult) -> Figure:
    """Returns the figure of the study's first two objectives, the first one on the y axis.

    The view spans the full-fidelity points; the legend counts the stopped trials outside it.
    """
    names, points = plot_axes(study), study.points()
    stopped = stopped_points(study, names)
    figure, axes = _new_figure(height=5.0)
    _set_view(axes, points or stopped, names)
    label = f"stopped early ({len(stopped)}{_count_hidden(axes, stopped, names)})"
    _scatter(axes, stopped, names, facecolors="none", edgecolors=PALE, s=18, label=label)
    label = f"all read-outs at full fidelity ({len(points)})"
    _scatter(axes, points, names, color=GREY, s=16, linewidths=0, label=label)
    _draw_front(axes, study, names)
    title = study.name if len(study.name) <= MAX_TITLE else f"{study.name[: MAX_TITLE - 1]}\u2026"
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    if points or stopped:
        style: dict[str, Any] = {"ncols": 4, "columnspacing": 1.2, "handletextpad": 0.2, "fontsize": 9}
        figure.legend(loc="outside lower center", frameon=False, **style)
    return figure


def curves_figure(study: StudyResult, metric: str | None = None) -> Figure:
    """Returns the learning curves of a metric, by default the first objective; knee, best and cheapest in color."""
    name = metric or next(iter(study.objectives))
    figure, axes = _new_figure(height=4.0)
    labels = highlighted_trials(study)
    for trial in study.trials:
        curve = trial.curve(name)
        if curve and trial.number not in labels:
            color, alpha = (BLUE, 0.45) if trial.state == "complete" else (PALE, 0.8)
            style = ".-" if len(curve) == 1 else "-"
            axes.plot(*zip(*curve, strict=True), style, linewidth=0.8, color=color, alpha=alpha)
    for number, label in labels.items():
        curve = study.trial(number).curve(name)
        axes.plot(*zip(*curve, strict=True), color=LABELS[label.split(", ")[0]], label=f"t{number:04d} ({label})")
    if not axes.lines:
        _write_text(axes, "no epoch has finished yet")
    axes.set(xlabel="Epoch", ylabel=METRICS[name].label)
    if labels:
        axes.legend(frameon=False, fontsize=8)
    return figure


def importance_figure(study: StudyResult) -> Figure:
    """Returns the importance of each key for each objective and for the front, by PED-ANOVA."""
    found = importances(study)
    keys = found.order()
    figure, axes = _new_figure(height=1.2 + 0.3 * len(keys) if keys else 3.0)
    if not found.shares:
        _write_text(axes, f"importance needs {MIN_TRIALS} trials (got {found.num_trials})")
        return figure
    height = 0.8 / len(found.shares)
    for index, (color, (target, shares)) in enumerate(zip((BLUE, *SERIES), found.shares.items(), strict=False)):
        rows = [row + height * (index - (len(found.shares) - 1) / 2) for row in range(len(keys))]
        label = "for the front" if target == FRONT else f"for {target}"
        axes.barh(rows, [100 * shares[key] for key in keys], height, color=color, label=label)
    axes.set_yticks(range(len(keys)), keys)
    axes.invert_yaxis()
    axes.set(xlabel=f"Importance (%), {found.num_trials} trials after {found.epoch} of {study.epochs} epochs")
    axes.legend(frameon=False, fontsize=8)
    return figure


FIGURES = {"front": front_figure, "curves": curves_figure, "importance": importance_figure}
"""Figures by file name. Without the data for a figure, a message is plotted in its place."""


def write_figures(study: StudyResult, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes every figure as PNG and SVG, the same bytes for the same study, and returns the paths."""
    written = []
    for name, draw in FIGURES.items():
        figure = draw(study)
        for suffix in ("png", "svg"):
            path = Path(folder) / f"{name}.{suffix}"
            _save(figure, path)
            written.append(path)
    return written


def comparison_figure(studies: Studies) -> Figure:
    """Returns the fronts of several studies, and their hypervolumes over epochs to a common reference point."""
    names, reference = plot_axes(next(iter(studies.values()))), common_reference(studies)
    figure = _new_canvas(height=4.0)
    left, right = _styled(figure.add_subplot(1, 2, 1)), _styled(figure.add_subplot(1, 2, 2))
    _set_view(left, [point for study in studies.values() for point in study.points()], names)
    for (label, study), color, marker in zip(studies.items(), cycle((BLUE, *SERIES[:3], RED)), cycle("osD^v")):
        x, y = ([point.metrics[name] for point in front_line(study, names)] for name in names)
        left.step(x, y, where="post", color=color, marker=marker, markersize=4, linewidth=1.2, label=label)
        curve = hypervolume_curve(study, reference)
        right.step([p.epochs for p in curve], [p.hypervolume for p in curve], where="post", color=color, linewidth=1.2)
    right.set(xlabel="Epochs trained", ylabel=f"Hypervolume ({product_unit(reference)})")
    figure.legend(loc="outside lower center", frameon=False, ncols=4, fontsize=9)
    return figure


def write_comparison_figures(studies: Studies, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes the figure of several studies as PNG and SVG, and returns the paths."""
    paths = [Path(folder) / f"comparison.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        _save(comparison_figure(studies), path)
    return paths


def write_front_png(study: StudyResult, path: str | os.PathLike[str]) -> None:
    """Writes the figure of the front as a PNG."""
    _save(front_figure(study), Path(path))


class PaperFigure(Figure):
    """A figure that notebooks display, also before pyplot is imported."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def _save(figure: Figure, path: Path) -> None:
    """Writes a figure without the date and versions that would make its bytes differ."""
    suffix = path.suffix.removeprefix(".")
    picture = io.BytesIO()
    with rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(picture, format=suffix, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    write_atomic(path, picture.getvalue())


def _new_figure(height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure with one frame."""
    figure = _new_canvas(height)
    return figure, _styled(figure.add_subplot())


def _new_canvas(height: float) -> Figure:
    """Returns an empty figure, which pyplot does not keep."""
    figure = PaperFigure(figsize=(7.2, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _styled(axes: Axes) -> Axes:
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    return axes


def _write_text(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=INK)


def _scatter(axes: Axes, points: Sequence[FrontPoint], names: MetricPair, **style: Any) -> None:
    if points:
        x, y = ([point.metrics[name] for point in points] for name in names)
        axes.scatter(x, y, **style)


def _set_view(axes: Axes, points: Sequence[FrontPoint], names: MetricPair) -> None:
    for name, side in zip(names, ("x", "y"), strict=True):
        values = [end for point in points for end in point.interval(name)]
        axes.set(**{f"{side}label": METRICS[name].label})
        if values:
            is_log = min(values) > 0 and max(values) / min(values) > LOG_RATIO
            axes.set(**{f"{side}scale": "log" if is_log else "linear", f"{side}lim": _limits(values, is_log)})
        if max(values, default=0.0) >= PREFIXED:
            (axes.xaxis if side == "x" else axes.yaxis).set_major_formatter(EngFormatter())


def _limits(values: Sequence[float], is_log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if is_log:
        factor = (high / low) ** MARGIN
        return low / factor, high * factor
    margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    return low - margin, high + margin


def _count_hidden(axes: Axes, points: Sequence[FrontPoint], names: MetricPair) -> str:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    positions = [(point.metrics[names[0]], point.metrics[names[1]]) for point in points]
    hidden = sum(not (left <= x <= right and bottom <= y <= top) for x, y in positions)
    return f", {hidden} out of view" if hidden else ""


def _draw_front(axes: Axes, study: StudyResult, names: MetricPair) -> None:
    front, knee = study.front(), study.knee()
    if knee is None:
        _write_text(axes, (empty_front(study) or ("no point at full fidelity yet",))[0])
        return
    x, y = ([point.metrics[name] for point in front_line(study, names)] for name in names)
    axes.step(x, y, where="post", color=BLUE, linewidth=1.4, zorder=2)
    style = {"edgecolors": "white", "linewidths": 0.8, "zorder": 3}
    _scatter(axes, front, names, color=BLUE, s=34, label=f"front ({len(front)})", **style)
    _scatter(axes, [knee], names, color=ORANGE, s=170, marker="*", edgecolors="white", zorder=4, label="knee")
    _draw_seeds(axes, study.points(), names)
    axes.set_title(_describe_knee(knee, study), loc="right", fontsize=9, color=ORANGE)


def _draw_seeds(axes: Axes, points: Sequence[FrontPoint], names: MetricPair) -> None:
    """Standard deviations of the points that are means over seeds."""
    repeated = [point for point in points if point.seeds > 1]
    if repeated:
        x, y = ([point.metrics[name] for point in repeated] for name in names)
        dx, dy = (_errors(repeated, name) for name in names)
        axes.errorbar(x, y, yerr=dy, xerr=dx, fmt="D", ms=3, color=INK, linewidth=0.9, label="mean over seeds")


def _errors(points: Sequence[FrontPoint], name: str) -> list[list[float]]:
    """Returns the lengths of the error bars below and above the points."""
    ends = [(point.metrics[name], *point.interval(name)) for point in points]
    return [[value - low for value, low, _ in ends], [high - value for value, _, high in ends]]


def _describe_knee(knee: FrontPoint, study: StudyResult) -> str:
    """Returns a title such as `knee t0031 read at step 2 of 4: accuracy 93.1, spike_rate 0.12`."""
    step = study.trial(knee.trial).config.get("step")
    is_whole = knee.exit is None and knee.read_step == step
    early = "" if is_whole else f" read at step {knee.read} of {step}"
    metrics = ", ".join(f"{name} {format_number(knee.metrics[name])}" for name in study.objectives)
    test = f", test accuracy {format_number(knee.test['accuracy'].mean)}" if "accuracy" in knee.test else ""
    return f"knee {knee.key}{early}: {metrics}{test}"
