"""Charts of the training: learning curves, hypervolume, rungs, and spike rates of the layers."""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.front import has_finite, highlighted_trials, plot_axes
from results.analysis.history import Rung, hypervolume_curve, rungs, trials_at_epoch
from results.charts.style import Chart, Color, Tabs, axis, chart, fitted_axis, label_color, markers, scatter, subsample
from results.metrics import product_unit
from results.study import FrontPoint, StudyResult, TrialResult

CURVES = ("accuracy", "spike_rate", "loss")
MAX_CURVES = 200
MAX_EPOCHS = 60
MAX_VOLUMES = 1000


def curve_charts(study: StudyResult) -> Tabs:
    """Returns the learning curves of each metric, with those of knee, best and cheapest in color."""
    metrics = dict.fromkeys([*study.objectives, *CURVES])
    return {name: found for name in metrics if (found := _curves(study, name))["data"]}


def hypervolume_charts(study: StudyResult) -> Tabs:
    """Returns the hypervolume over the epochs trained, and over the hours of the search if the times are known."""
    curve = subsample(hypervolume_curve(study), MAX_VOLUMES)
    volumes = [progress.hypervolume for progress in curve]
    hours = [progress.hours for progress in curve if progress.hours is not None]
    unit = product_unit(study.objectives)
    found = {"by epochs": _volumes([float(p.epochs) for p in curve], volumes, "Epochs trained", unit)}
    return found | ({"by hours": _volumes(hours, volumes, "Hours of the search", unit)} if hours else {})


def _volumes(x: Sequence[float], volumes: Sequence[float], title: str, unit: str) -> Chart:
    line = {"shape": "hv", "color": Color.BLUE, "width": 2}
    trace = scatter("", x, volumes, "lines", line=line, hovertemplate="%{y} at %{x}<extra></extra>")
    titles = {"xaxis": {"title": {"text": title}}, "yaxis": {"title": {"text": f"Hypervolume ({unit})"}}}
    return chart([trace] if len(volumes) > 1 else [], 400, showlegend=False, **titles)


def rung_charts(study: StudyResult) -> Tabs:
    """Returns a chart for each rung: the trials stopped at it and those promoted."""
    return {f"epoch {rung.epoch}": _rung(study, rung) for rung in rungs(study) if rung.reached}


def layer_chart(study: StudyResult) -> Chart:
    """Returns the spike rate of each neuron layer for knee, best and cheapest."""
    data = []
    for number, label in highlighted_trials(study).items():
        color = label_color(label)
        layers = [layer for layer in study.trial(number).layers if "spike_rate" in layer]
        trace = scatter(
            f"t{number:04d} ({label})",
            [float(layer["spike_rate"]) for layer in layers],
            [str(layer["name"]) for layer in layers],
            "lines+markers",
            line={"color": color, "width": 1},
            marker={"color": color, "size": 7},
            hovertemplate="%{y}: %{x}<extra></extra>",
        )
        data.append(trace)
    titles = {
        "xaxis": {"title": {"text": "Spikes per neuron and step, at the last step"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category"},
    }
    return chart(data, 150 + 18 * max((len(trace["x"]) for trace in data), default=0), **titles)


def _curves(study: StudyResult, metric: str) -> Chart:
    highlighted = highlighted_trials(study)
    others = [trial for trial in study.trials if trial.curve(metric) and trial.number not in highlighted]
    complete = [trial for trial in others if trial.state == "complete"]
    stopped = [trial for trial in others if trial.state != "complete"]
    data = [
        _joined_curves(stopped, metric, f"stopped or failed ({len(stopped)})", Color.PALE),
        _joined_curves(complete, metric, f"full training ({len(complete)})", Color.BLUE),
    ]
    data += [_curve(study.trial(number), metric, label_color(label)) for number, label in highlighted.items()]
    return chart(data, 440, xaxis={"title": {"text": "Epoch"}}, yaxis=axis(metric))


def _joined_curves(trials: Sequence[TrialResult], metric: str, name: str, color: Color) -> Chart:
    """Many curves as one trace, with gaps between them."""
    points: list[tuple[int | None, float | None]] = []
    for trial in subsample(trials, MAX_CURVES):
        points += [*subsample(trial.curve(metric), MAX_EPOCHS), (None, None)]
    style = {"line": {"color": color, "width": 1}, "marker": {"size": 3, "color": color}, "opacity": 0.55}
    x, y = ([point[side] for point in points] for side in (0, 1))
    return scatter(name, x, y, "lines+markers", hoverinfo="skip", **style)


def _curve(trial: TrialResult, metric: str, color: Color) -> Chart:
    x, y = ([point[side] for point in trial.curve(metric)] for side in (0, 1))
    hover = f"{trial.key}, epoch %{{x}}: %{{y}}<extra></extra>"
    style = {"line": {"color": color, "width": 2.5}, "marker": {"size": 4}}
    return scatter(trial.key, x, y, "lines+markers", hovertemplate=hover, **style)


def _rung(study: StudyResult, rung: Rung) -> Chart:
    names = plot_axes(study)
    points = [
        point
        for trial, metrics in trials_at_epoch(study, rung.epoch)
        if has_finite(point := FrontPoint(trial.number, trial.read_step, metrics, trial.params), names)
    ]
    ended = set(rung.stopped)
    stopped = [point for point in points if point.trial in ended]
    passed = [point for point in points if point.trial not in ended]
    data = [
        markers(stopped, names, f"stopped ({len(stopped)})", color=Color.PALE, size=8, symbol="x"),
        markers(passed, names, f"continued ({len(passed)})", color=Color.BLUE, size=9),
    ]
    x, y = (fitted_axis(name, [point.metrics[name] for point in points]) for name in names)
    return chart(data, 420, xaxis=x, yaxis=y)
