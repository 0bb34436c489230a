"""What MLflow's page shows of a study at one click: saved views of its table and charts, and the front as a note.

A saved view is a tag of the experiment, as MLflow's own page writes it; `mlflow.sharedViewState.front` is the view
that the page lists as "front" and that `?viewStateShareKey=front` opens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from results.metrics import format_metric, format_value
from results.study import StudyResult

VIEWS = {"front": "tags.status = 'complete'", "trials": "tags.kind = 'trial'"}
"""The saved views, and the runs that each shows: trials trained to the end, and all."""
VIEW = "mlflow.sharedViewState."
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the page on the training runs, without asking whether the experiment is about a language model."""
NOTE = "mlflow.note.content"
MOST_KEYS = 20
"""Searched keys in a view; MLflow's tags hold 5000 characters, and more axes nobody reads."""
MOST_ROWS = 20
SECTION = "front"
COSTS = ("accuracy", "spike_rate", "synops")


def tags(study: StudyResult) -> dict[str, str]:
    """Returns the tags of the experiment."""
    return {**KIND, **{VIEW + name: _view(study, name, query) for name, query in VIEWS.items()}}


def _view(study: StudyResult, title: str, query: str) -> str:
    """Returns a view: the objectives of the runs against each other, and all their values."""
    names = list(dict.fromkeys([*study.objectives, *COSTS]))
    keys = list(study.searched[:MOST_KEYS])
    first, *others = study.objectives
    charts = [_scatter(first, other) for other in dict.fromkeys([*others, *COSTS]) if other != first]
    state = {
        "searchFilter": query,
        "orderByKey": f"metrics.`{first}`",
        "orderByAsc": study.direction(first) == "minimize",
        "selectedColumns": ["tags.`front`", *(f"metrics.`{n}`" for n in names), *(f"params.`{key}`" for key in keys)],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [*charts, _parallel(keys, list(study.objectives))],
        "compareRunSections": [{"uuid": SECTION, "name": study.name, "display": True, "columns": 2, "cardHeight": 420}],
    }
    return json.dumps({"name": title, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


def note(study: StudyResult) -> str:
    """Returns the front as a table in Markdown, the knee marked, for the description of the parent run."""
    front, knee = study.front(), study.knee()
    names = list(dict.fromkeys([*study.objectives, *COSTS]))
    head = ["trial", "read at step", *names, "values"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for point in front[:MOST_ROWS]:
        values = " ".join(f"{key}={format_value(value)}" for key, value in point.params.items())
        mark = " (knee)" if point == knee else ""
        cells = [point.key + mark, str(point.read_step), *_cells(point.metrics, names), values]
        lines.append("| " + " | ".join(cells) + " |")
    shown = f"the first {MOST_ROWS} of its {len(front)} points" if len(front) > MOST_ROWS else f"{len(front)} points"
    return f"The front, {shown}; the whole report is `report.html` under Artifacts.\n\n" + "\n".join(lines)


def _cells(metrics: Mapping[str, float], names: list[str]) -> list[str]:
    return [format_metric(name, metrics[name]) if name in metrics else "" for name in names]


def _scatter(up: str, right: str) -> dict[str, Any]:
    axes = {axis: {"key": name, "type": "METRIC"} for axis, name in (("xaxis", right), ("yaxis", up))}
    return _card("SCATTER", f"scatter-{right}", **axes, runsCountToCompare=100)


def _parallel(keys: list[str], metrics: list[str]) -> dict[str, Any]:
    return _card("PARALLEL", "parallel", selectedParams=keys, selectedMetrics=metrics, showAllRuns=False)


def _card(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": name, "metricSectionId": SECTION, "deleted": False, "isGenerated": False, **more}
