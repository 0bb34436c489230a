"""The page that compares studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.analysis.comparison import NOT_SET, Studies, common_reference, differing_settings, repeats
from results.analysis.front import hypervolume
from results.analysis.history import total_epochs
from results.charts.comparison import attainment_charts, front_comparison, hypervolume_comparison
from results.metrics import format_number, product_unit
from results.reporting.page import Page, filled, format_reference, render_template, script_json
from results.reporting.tables import format_hours
from results.study import StudyResult

MAX_TITLE = 80
COLUMNS = ("trials", "complete", "front", "epochs", "time", "hypervolume", "knee")


@dataclass(frozen=True)
class StudyRow:
    """A study: its label, its cells in the order of `COLUMNS`, and its name on a command line."""

    label: str
    cells: list[str]
    source: str


def comparison_page(studies: Studies, sources: Sequence[str]) -> Page:
    """Returns the page that compares studies, which have the same objectives, with their names on a command line."""
    reference, first = common_reference(studies), next(iter(studies.values()))
    charts = filled(
        {
            "fronts": front_comparison(studies),
            "hypervolume": hypervolume_comparison(studies, reference),
            "attainment": attainment_charts(repeats(studies), first),
        }
    )
    names = " and ".join(studies) if len(studies) == 2 else ", ".join(studies)
    title = names if len(names) <= MAX_TITLE else f"{len(studies)} studies"
    context: dict[str, Any] = {
        "title": title,
        "objectives": first.objectives,
        "warnings": _warnings(studies),
        "columns": COLUMNS,
        "rows": _rows(studies, sources, reference),
        "reference": format_reference(reference),
        "hypervolume_unit": product_unit(first.objectives),
        "differences": differing_settings(studies),
        "charts": charts,
    }
    return Page(f"{title}: comparison", render_template("comparison.html", context), script_json({"charts": charts}))


def _rows(studies: Studies, sources: Sequence[str], reference: Mapping[str, float]) -> list[StudyRow]:
    return [
        StudyRow(label, _cells(study, reference), source)
        for (label, study), source in zip(studies.items(), sources, strict=True)
    ]


def _cells(study: StudyResult, reference: Mapping[str, float]) -> list[str]:
    knee, hours = study.knee(), study.attrs.get("hours")
    metrics = [] if knee is None else [f"{name} {format_number(knee.metrics[name])}" for name in study.objectives]
    numbers = [len(study.trials), len(study.select("complete")), len(study.front()), total_epochs(study)]
    return [
        *map(str, numbers),
        format_hours(float(hours)) if hours else NOT_SET,
        format_number(hypervolume(study, reference)),
        f"{knee.key}: {', '.join(metrics)}" if knee else NOT_SET,
    ]


def _warnings(studies: Studies) -> list[str]:
    """Returns what makes the metrics of the studies differ in meaning."""
    found = []
    for key, text in {"dataset": "data sets", "num_classes": "numbers of classes"}.items():
        values = {str(trial.config[key]) for study in studies.values() for trial in study.trials if key in trial.config}
        if len(values) > 1:
            found.append(f"The studies have different {text} ({', '.join(sorted(values))}): compare with care.")
    epochs = sorted({study.epochs for study in studies.values()})
    if len(epochs) > 1:
        found.append(f"A full training has a different length in these studies: {', '.join(map(str, epochs))} epochs.")
    if any(study.select("running") for study in studies.values()):
        found.append("A search was still running when this was written.")
    return found
