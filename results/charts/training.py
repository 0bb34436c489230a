"""How the trials went: learning curves, the hypervolume, who was stopped where, and the layers' spike rates."""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.history import hypervolume_curve, rungs
from results.charts.style import (
    BLUE,
    GREEN,
    ORANGE,
    PALE,
    PURPLE,
    Chart,
    Tabs,
    axis,
    chart,
    dots,
    framed,
    plain,
    rounded,
    thinned,
)
from results.study import FrontPoint, StudyResult, TrialResult
from results.views import axes_of, chosen, is_measured, layer_rates

COLORS = (ORANGE, GREEN, PURPLE, BLUE)
CURVES = ("accuracy", "spike_rate", "loss")
MOST_CURVES = 200
MOST_EPOCHS = 60
MOST_NAMED = 4


def curve_charts(study: StudyResult) -> Tabs:
    """Returns the learning curves of each metric; the chosen configs by name, the others grey."""
    metrics = dict.fromkeys([*study.objectives, *CURVES])
    return {name: found for name in metrics if (found := _curves(study, name))["data"]}


def hypervolume_chart(study: StudyResult) -> Chart:
    """Returns the hypervolume against the epochs spent."""
    curve = thinned(hypervolume_curve(study), 1000)
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [spent for spent, _ in curve],
        "y": [rounded(volume) for _, volume in curve],
        "line": {"shape": "hv", "color": BLUE, "width": 2},
        "hovertemplate": "%{y} after %{x} epochs<extra></extra>",
    }
    titles = {"xaxis": {"title": {"text": "Epochs spent"}}, "yaxis": {"title": {"text": "Hypervolume"}}}
    return chart([trace] if len(curve) > 1 else [], 340, showlegend=False, **titles)


def rung_charts(study: StudyResult) -> Tabs:
    """Returns, for each rung, the trials as they stood there: those stopped and those that went on."""
    return {f"epoch {rung.epoch}": _rung(study, rung.epoch, set(rung.stopped)) for rung in rungs(study) if rung.reached}


def layer_chart(study: StudyResult) -> Chart:
    """Returns the spike rate of each neuron layer of the chosen configs."""
    by_trial: dict[int, list[str]] = {}
    for word, point in chosen(study).items():
        by_trial.setdefault(point.trial, []).append(word)
    data, longest = [], 0
    for color, (number, names) in zip(COLORS, by_trial.items(), strict=False):
        rates = layer_rates(study.trial(number))
        longest = max(longest, len(rates))
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"t{number:04d} ({', '.join(names)})",
                "x": [rounded(rate) for _, rate in rates],
                "y": [plain(layer) for layer, _ in rates],
                "line": {"color": color, "width": 1},
                "marker": {"color": color, "size": 7},
                "hovertemplate": "%{y}: %{x}<extra></extra>",
            }
        )
    titles = {
        "xaxis": {"title": {"text": "Spikes per neuron and step, at the last step"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category"},
    }
    return chart([trace for trace in data if trace["x"]], 150 + 18 * longest, **titles)


def _curves(study: StudyResult, metric: str) -> Chart:
    named = list(dict.fromkeys(point.trial for point in chosen(study).values()))[:MOST_NAMED]
    trials = [trial for trial in study.trials if len(trial.curve(metric)) > 0 and trial.number not in named]
    groups = {
        f"stopped or failed ({sum(t.state != 'complete' for t in trials)})": (
            [t for t in trials if t.state != "complete"],
            PALE,
        ),
        f"full training ({sum(t.state == 'complete' for t in trials)})": (
            [t for t in trials if t.state == "complete"],
            BLUE,
        ),
    }
    data = [_joined(thinned(group, MOST_CURVES), metric, name, color) for name, (group, color) in groups.items()]
    for color, number in zip(COLORS, named, strict=False):
        data.append(_curve(study.trial(number), metric, color))
    layout = {"xaxis": {"title": {"text": "Epoch"}}, "yaxis": axis(metric)}
    return chart([trace for trace in data if trace["x"]], 440, **layout)


def _joined(trials: Sequence[TrialResult], metric: str, name: str, color: str) -> Chart:
    """Many curves as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    for trial in trials:
        for epoch, value in thinned(trial.curve(metric), MOST_EPOCHS):
            x.append(epoch)
            y.append(rounded(value))
        x.append(None)
        y.append(None)
    line = {"color": color, "width": 1}
    look = {"mode": "lines+markers", "marker": {"size": 3, "color": color}, "opacity": 0.55, "hoverinfo": "skip"}
    return {"type": "scatter", "name": name, "x": x, "y": y, "line": line, **look}


def _curve(trial: TrialResult, metric: str, color: str) -> Chart:
    curve = trial.curve(metric)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": trial.key,
        "x": [epoch for epoch, _ in curve],
        "y": [rounded(value) for _, value in curve],
        "line": {"color": color, "width": 2.5},
        "marker": {"size": 4},
        "hovertemplate": f"{trial.key}, epoch %{{x}}: %{{y}}<extra></extra>",
    }


def _rung(study: StudyResult, epoch: int, stopped: set[int]) -> Chart:
    names = axes_of(study)
    points = [
        FrontPoint(trial.number, trial.read_step, dict(metrics), trial.params)
        for trial in study.trials
        for metrics in trial.epochs
        if metrics["epoch"] == epoch and trial.state != "failed"
    ]
    points = [point for point in points if is_measured(point, names)]
    ended = [point for point in points if point.trial in stopped]
    passed = [point for point in points if point.trial not in stopped]
    data = [
        dots(ended, names, f"stopped here ({len(ended)})", color=PALE, size=8, symbol="x"),
        dots(passed, names, f"went on ({len(passed)})", color=BLUE, size=9),
    ]
    x, y = (framed(name, [point.metrics[name] for point in points]) for name in names)
    return chart([trace for trace in data if trace["x"]], 420, xaxis=x, yaxis=y)
