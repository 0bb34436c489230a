"""Report of a study as one HTML file that needs no network: python -m results.report runs/S"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config import cli
from config.files import write_atomic
from config.uris import redact
from results import charts, tables
from results.analysis.edges import edges
from results.analysis.importance import MIN_TRIALS, Importance, importances
from results.charts.style import Tabs, escape
from results.load import add_study_arguments, load_from_arguments
from results.metrics import METRICS
from results.study import StudyResult

TEMPLATES = Path(__file__).with_name("templates")
NAME = "report.html"


def write_report(study: StudyResult, path: Path, source: str) -> None:
    """Writes the report atomically. `source` names the study on a command line, such as `runs/quickstart`."""
    write_atomic(path, render(study, source))


def render(study: StudyResult, source: str) -> str:
    """Returns the report's HTML, the same text for the same study."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    importance = importances(study)
    figures = _charts(study, importance)
    steps = {str(trial.number): trial.config.get("step") for trial in study.trials}
    texts = {str(number): escape(text) for number, text in tables.hover_texts(study).items()}
    data = {"charts": figures, "hoverTexts": texts, "steps": steps}
    context = _context(study, source) | {"importance": importance, "charts": figures, "data": script_json(data)}
    return environment.get_template(NAME).render(context, plotly=get_plotlyjs())


def script_json(value: object) -> str:
    """Returns JSON that cannot end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _charts(study: StudyResult, importance: Importance) -> dict[str, Tabs]:
    """Returns the charts of each section by the labels of their tabs, without charts that have no data."""
    sections = {
        "front": charts.front_charts(study),
        "curves": charts.curve_charts(study),
        "layers": {"": charts.layer_chart(study)},
        "hypervolume": {"": charts.hypervolume_chart(study)},
        "rungs": charts.rung_charts(study),
        "importance": {"": charts.importance_chart(importance)},
        "slices": charts.slice_charts(study, importance.epoch),
        "parallel": {"": charts.parallel_chart(study, importance.epoch)},
        "failures": {"": charts.failure_chart(study)},
    }
    filled = {name: {label: tab for label, tab in tabs.items() if tab["data"]} for name, tabs in sections.items()}
    return {name: tabs for name, tabs in filled.items() if tabs}


def _context(study: StudyResult, source: str) -> dict[str, Any]:
    return {
        "study": study,
        "source": source,
        "is_running": bool(study.select("running")),
        "num_complete": len(study.select("complete")),
        "summary": tables.summary(study),
        "metrics": {name: METRICS[name].label for name in tables.front_metrics(study)},
        "front": tables.front_rows(study, source),
        "num_front": len(study.front()),
        "published": tables.reference_rows(study),
        "rungs": tables.rung_rows(study),
        "min_trials": MIN_TRIALS,
        "edges": [str(edge) for edge in edges(study)],
        "failures": tables.failure_groups(study),
        "settings": tables.settings(study),
        "space": tables.space_text(study),
    }


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m results.report", description="Writes the report of a study as one HTML file.")
    add_study_arguments(parser)
    parser.add_argument("--out", type=Path, help="output file (default: report.html in the study's folder)")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write figures for a paper, as PNG and SVG")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Loads the study, writes the report and the figures, and prints their paths."""
    study, home = load_from_arguments(arguments)
    path = arguments.out or home / NAME
    write_report(study, path, _source(arguments))
    print(f"wrote {path}")
    if arguments.figures is not None:
        from results.figures import write_figures

        for written in write_figures(study, arguments.figures):
            print(f"wrote {written}")
    return cli.OK


def _source(arguments: argparse.Namespace) -> str:
    uri = redact(arguments.tracking_uri) if arguments.tracking_uri else None
    options = {"--tracking-uri": uri, "--experiment": arguments.experiment}
    given = [word for option, value in options.items() if value for word in (option, value)]
    return shlex.join([str(Path(arguments.folder))] if arguments.folder else given)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 disk or MLflow."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
