"""Report of a study as one HTML file that needs no network: python -m results.report runs/S

Several studies are compared in one file. `--serve` shows the page at an address of this machine and updates it while
the search runs.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from config import cli
from config.files import write_atomic
from config.uris import redact
from results.analysis.comparison import Studies, check_comparable, label_studies
from results.load import add_tracking_arguments, load
from results.metrics import ResultsError
from results.reporting.comparison_page import comparison_page
from results.reporting.page import Page, study_page
from results.study import StudyResult

NAME = "report.html"
COMPARISON = "comparison.html"
TRIALS = "trials.csv"


def write_report(study: StudyResult, path: Path, source: str) -> None:
    """Writes the report atomically. `source` names the study on a command line, such as `runs/quickstart`."""
    write_atomic(path, study_page(study, source).html())


def write_comparison(studies: Studies, path: Path, sources: Sequence[str]) -> None:
    """Writes the comparison of studies atomically. `sources` name the studies on a command line."""
    write_atomic(path, comparison_page(studies, sources).html())


def _parser() -> cli.Parser:
    description = "Writes the report of a study, or the comparison of several, as one HTML file."
    parser = cli.Parser(prog="python -m results.report", description=description)
    parser.add_argument("folders", nargs="*", metavar="folder", help="the study's folder; several are compared")
    add_tracking_arguments(parser)
    parser.add_argument("--out", type=Path, help="output file (default: report.html in the study's folder)")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="also write figures for a paper, as PNG and SVG")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write the front as a LaTeX table")
    parser.add_argument("--serve", action="store_true", help="show the page on this machine, and update it")
    parser.add_argument("--port", type=int, help="port of --serve (default: 8800, or a free one)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes or serves the page of the studies that the arguments name."""
    _check(arguments)
    if arguments.serve:
        from results.reporting.server import serve

        return serve(lambda: _page(_load(arguments), arguments), [*map(Path, arguments.folders)], arguments.port)
    studies = _load(arguments)
    path = arguments.out or _default_path(studies, arguments)
    write_atomic(path, _page(studies, arguments).html())
    written = [path]
    if len(studies) == 1:
        written.append(path.with_name(TRIALS))
        next(iter(studies.values())).write_trials_csv(written[-1])
    if arguments.latex is not None:
        from results.reporting.latex import write_front_table

        write_front_table(studies, arguments.latex)
        written.append(arguments.latex)
    if arguments.figures is not None:
        from results.figures import write_comparison_figures, write_figures

        is_single = len(studies) == 1
        written += write_figures(next(iter(studies.values())), arguments.figures) if is_single else (
            write_comparison_figures(studies, arguments.figures)
        )  # fmt: skip
    print(*(f"wrote {one}" for one in written), sep="\n")
    return cli.OK


def _check(arguments: argparse.Namespace) -> None:
    """Raises ResultsError for options that exclude each other."""
    if len(arguments.folders) > 1 and (arguments.tracking_uri or arguments.experiment):
        raise ResultsError("give study folders, or a tracking URI and an experiment, but not both")
    if arguments.port is not None and not arguments.serve:
        raise ResultsError("--port: needs --serve")
    written = [f"--{name}" for name in ("out", "figures", "latex") if getattr(arguments, name) is not None]
    if arguments.serve and written:
        raise ResultsError(f"{written[0]}: --serve writes no files; leave one of them out")


def _load(arguments: argparse.Namespace) -> Studies:
    if len(arguments.folders) < 2:
        folder = arguments.folders[0] if arguments.folders else None
        study = load(folder, tracking_uri=arguments.tracking_uri, experiment=arguments.experiment)
        return {study.name: study}
    studies = label_studies(arguments.folders, [load(folder) for folder in arguments.folders])
    check_comparable(studies)
    return studies


def _page(studies: Studies, arguments: argparse.Namespace) -> Page:
    sources = _sources(arguments)
    if len(studies) > 1:
        return comparison_page(studies, sources)
    return study_page(next(iter(studies.values())), sources[0])


def _default_path(studies: Studies, arguments: argparse.Namespace) -> Path:
    if len(studies) > 1:
        return Path(arguments.folders[0]).parent / COMPARISON
    folder = arguments.folders[0] if arguments.folders else Path("runs") / next(iter(studies))
    return Path(folder) / NAME


def _sources(arguments: argparse.Namespace) -> list[str]:
    """Returns what names each study on a command line."""
    if arguments.folders:
        return [shlex.quote(str(Path(folder))) for folder in arguments.folders]
    uri = redact(arguments.tracking_uri) if arguments.tracking_uri else None
    options = {"--tracking-uri": uri, "--experiment": arguments.experiment}
    return [shlex.join([word for option, value in options.items() if value for word in (option, value)])]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 disk, port or MLflow."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
