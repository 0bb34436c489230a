"""How the trials went: learning curves, hypervolume, who was stopped where, and the layers' spike rates."""

from __future__ import annotations

from matplotlib.figure import Figure

from results.analysis.history import hypervolume_curve, rungs
from results.metrics import METRICS
from results.plots.style import BLUE, PALE, SERIES, framed, legend, new_figure, sentence, single
from results.study import StudyResult
from results.views import axes_of, chosen, layer_rates

LAYER_ROW = 0.2
NOTHING = "no epoch has been measured yet"


def curves_figure(study: StudyResult, metric: str | None = None) -> Figure:
    """Returns the learning curves of a metric, by default the first objective; the chosen configs by name."""
    name = metric or next(iter(study.objectives))
    figure, axes = single()
    named = _chosen_trials(study)
    for trial in study.trials:
        curve = trial.curve(name)
        if curve and trial.number not in named:
            color, alpha = (BLUE, 0.45) if trial.state == "complete" else (PALE, 0.8)
            mark = "." if len(curve) == 1 else ""
            axes.plot(*zip(*curve, strict=True), mark + "-", linewidth=0.8, color=color, alpha=alpha)
    for color, (number, words) in zip(SERIES, named.items(), strict=False):
        axes.plot(*zip(*study.trial(number).curve(name), strict=True), color=color, label=f"t{number:04d} ({words})")
    if not axes.lines:
        sentence(axes, NOTHING)
    axes.set(xlabel="Epoch", ylabel=METRICS[name].label)
    legend(axes)
    return figure


def hypervolume_figure(study: StudyResult) -> Figure:
    """Returns the hypervolume against the epochs spent, trials taken in the order of their numbers."""
    figure, axes = single(height=3.2)
    axes.step(*zip(*hypervolume_curve(study), strict=True), where="post", color=BLUE)
    axes.set(xlabel="Epochs spent", ylabel="Hypervolume")
    return figure


def rungs_figure(study: StudyResult) -> Figure:
    """Returns a frame for each rung with the trials as they stood there: those stopped and those that went on."""
    levels = [rung for rung in rungs(study) if rung.reached]
    names = axes_of(study)
    if not levels:
        figure, axes = single()
        sentence(axes, "no trial has come to a rung")
        return figure
    figure = new_figure(width=max(4.0, 3.4 * len(levels)), height=3.4)
    for place, rung in enumerate(levels, 1):
        axes = figure.add_subplot(1, len(levels), place)
        framed(axes)
        passed = set(rung.reached) - set(rung.stopped)
        for numbers, word, look in (
            (set(rung.stopped), "stopped", {"color": PALE, "marker": "x", "s": 18}),
            (passed, "went on", {"color": BLUE, "s": 16}),
        ):
            at = [e for n in sorted(numbers) for e in study.trial(n).epochs if e["epoch"] == rung.epoch]
            x, y = ([epoch[name] for epoch in at if set(names) <= epoch.keys()] for name in names)
            axes.scatter(x, y, label=f"{word} ({len(numbers)})", **look)  # type: ignore[arg-type]  # a plain dict
        axes.set_title(f"epoch {rung.epoch}", fontsize=10)
        axes.set(xlabel=METRICS[names[0]].label.split(" (")[0], ylabel=METRICS[names[1]].label if place == 1 else "")
        legend(axes)
    return figure


def layers_figure(study: StudyResult) -> Figure:
    """Returns the spike rate of each neuron layer of the chosen configs."""
    rates = {number: layer_rates(study.trial(number)) for number in _chosen_trials(study)}
    layers = list(dict.fromkeys(name for found in rates.values() for name, _ in found))
    figure, axes = single(height=1.4 + LAYER_ROW * len(layers))
    if not layers:
        sentence(axes, "no layer of a point on the front was measured")
        return figure
    for color, (number, words) in zip(SERIES, _chosen_trials(study).items(), strict=False):
        places = [layers.index(name) for name, _ in rates[number]]
        label = f"t{number:04d} ({words})"
        axes.plot([rate for _, rate in rates[number]], places, "o-", ms=4, linewidth=0.8, color=color, label=label)
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="Spikes per neuron and step", xlim=(0, None))
    legend(axes)
    return figure


def _chosen_trials(study: StudyResult) -> dict[int, str]:
    """The trials of knee, best and cheapest, with these words."""
    found: dict[int, str] = {}
    for word, point in chosen(study).items():
        found[point.trial] = f"{found[point.trial]}, {word}" if point.trial in found else word
    return found
