"""MLflow page of a study: saved views of its table and charts, and the front as the parent run's description.

A saved view is a tag of the experiment, in the form that MLflow's own page writes: the page lists
`mlflow.sharedViewState.front` as "front", and `?viewStateShareKey=front` opens it.
"""

from __future__ import annotations

import json
from typing import Any

from results.metrics import counted, format_metric, format_params
from results.study import StudyResult
from results.study.constraints import empty_front

VIEWS = {"front": "tags.front = 'true'", "trials": "tags.kind = 'trial'"}
"""The saved views and their filters: the front, and all trials."""
VIEW = "mlflow.sharedViewState."
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the page on the training runs, without asking whether the experiment is about a language model."""
DESCRIPTION = "mlflow.note.content"
MAX_KEYS = 20
"""Searched keys in a view: MLflow's tags hold 5000 characters, and more axes cannot be read."""
MAX_ROWS = 20
SECTION = "front"
COSTS = ("accuracy", "spike_rate", "synops")


def tags(study: StudyResult) -> dict[str, str]:
    """Returns the tags of the experiment."""
    return {**EXPERIMENT_KIND, **{VIEW + name: _view(study, name, query) for name, query in VIEWS.items()}}


def is_ours(text: str) -> bool:
    """Returns whether a saved view is one that this module wrote, perhaps an earlier version of it."""
    try:
        view = json.loads(text)
    except ValueError:
        return False
    return isinstance(view, dict) and (view.get("name") in VIEWS and view.get("updatedAt") == 0)


def _view(study: StudyResult, title: str, query: str) -> str:
    """Returns a view: the objectives of the runs against each other, and all their values."""
    names = list(dict.fromkeys([*study.objectives, *COSTS]))
    keys = list(study.searched[:MAX_KEYS])
    first, *others = study.objectives
    charts = [_scatter(first, other) for other in dict.fromkeys([*others, *COSTS]) if other != first]
    parallel = {"selectedParams": keys, "selectedMetrics": list(study.objectives), "showAllRuns": False}
    state = {
        "searchFilter": query,
        "orderByKey": f"metrics.`{first}`",
        "orderByAsc": study.direction(first) == "minimize",
        "selectedColumns": ["tags.`front`", *(f"metrics.`{n}`" for n in names), *(f"params.`{key}`" for key in keys)],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [*charts, _card("PARALLEL", "parallel", parallel)],
        "compareRunSections": [{"uuid": SECTION, "name": study.name, "display": True, "columns": 2, "cardHeight": 420}],
    }
    return json.dumps({"name": title, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


def description(study: StudyResult) -> str:
    """Returns the front as a table in Markdown, with the knee marked, for the description of the parent run."""
    front, knee = study.front(), study.knee()
    names = list(dict.fromkeys([*study.objectives, *COSTS]))
    seeds = ["fresh seeds"] if any(point.seeds for point in front) else []
    head = ["trial", "read at step", *names, *seeds, "values"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for point in front[:MAX_ROWS]:
        metrics = [format_metric(name, point.metrics[name]) if name in point.metrics else "" for name in names]
        mark = " (knee)" if point == knee else ""
        texts = [point.describe_seeds(study.objectives)] if seeds else []
        cells = [point.key + mark, point.read, *metrics, *texts, format_params(point.params)]
        lines.append("| " + " | ".join(cells) + " |")
    points = counted(len(front), "point")
    shown = f"the first {MAX_ROWS} of its {points}" if len(front) > MAX_ROWS else points
    reason = "".join(f" {text}." for text in empty_front(study) or ())
    return f"The front, {shown}; the whole report is `report.html` under Artifacts.{reason}\n\n" + "\n".join(lines)


def _scatter(y: str, x: str) -> dict[str, Any]:
    axes = {axis: {"key": name, "type": "METRIC"} for axis, name in (("xaxis", x), ("yaxis", y))}
    return _card("SCATTER", f"scatter-{x}", {**axes, "runsCountToCompare": 100})


def _card(kind: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
    card = {"type": kind, "uuid": name, "metricSectionId": SECTION, "deleted": False, "isGenerated": False}
    return {**card, **content}
