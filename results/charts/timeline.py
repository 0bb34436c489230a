"""Chart of a search's timeline: the trials as bars over the parallel slots, by the hours of the search."""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.front import highlighted_trials
from results.analysis.timeline import Run, runs, search_hours
from results.charts.style import Chart, Color, chart, round_number, scatter, subsample
from results.study import StudyResult

MAX_RUNS = 3000
SHORT_H = 2.0
"""A search of fewer hours is drawn in minutes."""
STATES = {
    "complete": Color.BLUE,
    "stopped": Color.PALE,
    "paused": Color.PURPLE,
    "running": Color.GREEN,
    "failed": Color.RED,
}


def timeline_chart(study: StudyResult) -> Chart:
    """Returns a bar for each stretch in which a trial ran, coloured by the trial's state; empty without times."""
    found = runs(study)
    if not found:
        return chart([], 0)
    hours = search_hours(found)
    total = hours(max(run.end for run in found))
    factor, unit = (60.0, "Minutes") if total < SHORT_H else (1.0, "Hours")
    highlighted = highlighted_trials(study)
    shown = subsample(found, MAX_RUNS, [run for run in found if run.trial.number in highlighted])
    data = []
    for state, color in STATES.items():
        group = [run for run in shown if run.trial.state == state]
        count = len({run.trial.number for run in group})
        spans = [(factor * hours(run.start), factor * hours(run.end)) for run in group]
        data.append(_bars(group, spans, f"{state} ({count})", color))
    num_slots = 1 + max(run.slot for run in found)
    rows = {"title": {"text": "Worker"}, "autorange": "reversed", "dtick": max(1, num_slots // 20), "zeroline": False}
    axis = {"title": {"text": f"{unit} of the search"}, "rangemode": "tozero"}
    return chart(data, 130 + max(22 * min(num_slots, 30), 60), xaxis=axis, yaxis=rows, barmode="overlay", bargap=0.15)


def _bars(group: Sequence[Run], spans: Sequence[tuple[float, float]], name: str, color: Color) -> Chart:
    return scatter(
        name,
        [end - start for start, end in spans],
        [run.slot + 1 for run in group],
        type="bar",
        orientation="h",
        base=[round_number(start) for start, _ in spans],
        marker={"color": color, "line": {"color": Color.PAPER, "width": 1}},
        customdata=[[run.trial.number, run.trial.read_step] for run in group],
        hovertemplate="%{text}<extra></extra>",
        textposition="none",
    )
