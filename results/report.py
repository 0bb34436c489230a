"""Writes the report of a study as one HTML file that needs no network: python -m results.report runs/S"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.files import write_atomic
from results import charts, tables
from results.analysis.edges import edges
from results.analysis.history import fidelity
from results.analysis.importance import LEAST_TRIALS, importances
from results.charts.style import Chart, tips
from results.command import add_source, guarded, load_source, parse
from results.study import StudyResult
from results.uris import redact

TEMPLATES = Path(__file__).with_name("templates")
NAME = "report.html"


def write_report(study: StudyResult, path: Path, source: str) -> None:
    """Writes the report in one step. `source` names the study on a command line, as in `runs/quickstart`."""
    write_atomic(path, render(study, source))


def render(study: StudyResult, source: str) -> str:
    """Returns the report's HTML: the same text for the same study."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    drawn = _charts(study)
    data = {"charts": drawn, "tips": tips(tables.hover_lines(study)), "steps": _steps(study)}
    return environment.get_template(NAME).render(
        **_context(study, source), charts=drawn, data=script_json(data), plotly=get_plotlyjs()
    )


def script_json(value: object) -> str:
    """Returns JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _charts(study: StudyResult) -> dict[str, dict[str, Chart]]:
    """Returns the charts of each section by the labels of their tabs; sections without data are left out."""
    level = fidelity(study)
    found = {
        "front": charts.front_charts(study),
        "curves": charts.curve_charts(study),
        "layers": {"": charts.layer_chart(study)},
        "hypervolume": {"": charts.hypervolume_chart(study)},
        "rungs": charts.rung_charts(study),
        "importance": {"": charts.importance_chart(importances(study))},
        "slices": charts.slice_charts(study, level),
        "parallel": {"": charts.parallel_chart(study, level)},
        "failures": {"": charts.failure_chart(study)},
    }
    return {
        name: kept
        for name, tabs in found.items()
        if (kept := {label: chart for label, chart in tabs.items() if chart["data"]})
    }


def _context(study: StudyResult, source: str) -> dict[str, Any]:
    found = importances(study)
    return {
        "study": study,
        "source": source,
        "is_running": bool(study.select("running")),
        "num_complete": len(study.select("complete")),
        "facts": tables.facts(study),
        "metrics": tables.front_metrics(study),
        "metric_label": tables.metric_label,
        "front": tables.front_rows(study, source),
        "num_front": len(study.front()),
        "published": tables.reference_rows(study),
        "rungs": tables.rung_rows(study),
        "importance": found,
        "least_trials": LEAST_TRIALS,
        "edges": [str(edge) for edge in edges(study)],
        "failures": tables.failures(study),
        "settings": tables.settings(study),
        "space": tables.space_text(study),
    }


def _steps(study: StudyResult) -> dict[str, Any]:
    return {str(trial.number): trial.config.get("step") for trial in study.trials}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m results.report", description=(__doc__ or "").split(":")[0])
    add_source(parser)
    parser.add_argument("--out", type=Path, help="the file (default: report.html in the study's folder)")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write each figure as PNG and SVG too, for a paper")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Loads the study, writes what is asked for and prints where it is."""
    study, home = load_source(arguments)
    path = arguments.out or home / NAME
    write_report(study, path, _source(arguments))
    print(f"wrote {path}")
    if arguments.figures is not None:
        from results.plots import write_figures

        for written in write_figures(study, arguments.figures):
            print(f"wrote {written}")


def _source(arguments: argparse.Namespace) -> str:
    uri = redact(arguments.tracking_uri) if arguments.tracking_uri else None
    options = {"--tracking-uri": uri, "--experiment": arguments.experiment}
    given = [word for option, value in options.items() if value for word in (option, value)]
    return shlex.join([str(Path(arguments.folder))] if arguments.folder else given)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 the user's input, 4 the disk or MLflow."""
    arguments = parse(_parser(), argv)
    return guarded(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
