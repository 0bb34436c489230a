"""The page of a study, and its parts: HTML, and the data of its charts and of its table of trials."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from results import charts
from results.analysis.edges import edges
from results.analysis.front import hypervolume, reference_point
from results.analysis.importance import MIN_TRIALS, Importance, importances
from results.charts.style import Tabs
from results.metrics import ALL_METRICS, format_number, product_unit
from results.reporting import tables
from results.reporting.trial_data import trial_data
from results.study import StudyResult
from results.study.constraints import empty_front

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Page:
    """A page that needs no network: its title, its HTML between `<body>` and the scripts, and its data as JSON."""

    title: str
    body: str
    data: str

    @cached_property
    def version(self) -> str:
        """Returns a hash of the page's content."""
        return hashlib.sha256(f"{self.title}\0{self.body}\0{self.data}".encode()).hexdigest()[:16]

    def html(self, live: bool = False) -> str:
        """Returns the page as one file; a live one asks its server for updates."""
        from plotly.offline import get_plotlyjs

        shown = {"title": self.title, "body": self.body, "data": self.data, "live": self.version if live else ""}
        return render_template("page.html", {**shown, "plotly": get_plotlyjs()})


def study_page(study: StudyResult, source: str) -> Page:
    """Returns the page of a study, the same for the same study; `source` names it on a command line."""
    importance = importances(study)
    figures = filled(_charts(study, importance))
    context = _context(study, source) | {"importance": importance, "charts": figures}
    data = {"charts": figures, "trials": trial_data(study, source)}
    return Page(f"{study.name}: report", render_template("study.html", context), script_json(data))


def render_template(name: str, context: dict[str, Any]) -> str:
    """Returns a template with its variables filled in; all text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(name).render(context)


def script_json(value: object) -> str:
    """Returns JSON that cannot end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def filled(sections: dict[str, Tabs]) -> dict[str, Tabs]:
    """Returns the charts of each section by the labels of their tabs, without charts that have no data."""
    found = {name: {label: tab for label, tab in tabs.items() if tab["data"]} for name, tabs in sections.items()}
    return {name: tabs for name, tabs in found.items() if tabs}


def format_reference(reference: dict[str, float]) -> str:
    """Returns a reference point as text: `accuracy 10, spike_rate 1`."""
    return ", ".join(f"{name} {format_number(value)}" for name, value in reference.items())


def _charts(study: StudyResult, importance: Importance) -> dict[str, Tabs]:
    return {
        "front": charts.front_charts(study),
        "curves": charts.curve_charts(study),
        "layers": {"": charts.layer_chart(study)},
        "hypervolume": charts.hypervolume_charts(study),
        "timeline": {"": charts.timeline_chart(study)},
        "rungs": charts.rung_charts(study),
        "importance": {"": charts.importance_chart(importance)},
        "slices": charts.slice_charts(study, importance.epoch),
        "parallel": {"": charts.parallel_chart(study, importance.epoch)},
        "failures": {"": charts.failure_chart(study)},
    }


def _context(study: StudyResult, source: str) -> dict[str, Any]:
    return {
        "study": study,
        "source": source,
        "is_running": bool(study.select("running")),
        "num_complete": len(study.select("complete")),
        "summary": tables.summary(study),
        "metrics": {name: ALL_METRICS[name].label for name in tables.front_metrics(study)},
        "front": tables.front_rows(study, source),
        "configs": tables.config_rows(study),
        "num_front": len(study.front()),
        "empty_front": empty_front(study),
        "published": tables.reference_rows(study),
        "hypervolume": format_number(hypervolume(study.unconfirmed())),
        "hypervolume_unit": product_unit(study.objectives),
        "reference": format_reference(reference_point(study.unconfirmed())),
        "rungs": tables.rung_rows(study),
        "min_trials": MIN_TRIALS,
        "edges": [str(edge) for edge in edges(study)],
        "failures": tables.failure_groups(study),
        "settings": tables.settings(study),
        "space": tables.space_text(study),
    }
