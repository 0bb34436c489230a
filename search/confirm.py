"""Confirms the front with fresh seeds, then reads the test set once: `python -m search.confirm runs/S`.

A search trains each config once, so its front favours lucky configs. Here all candidates are trained with the same
fresh seeds, round by round; one that another clearly beats on every objective drops out. The others are reported with
mean and standard deviation. Then the test set is read, once, for the points that are on the front in most resamples.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from config import cli, interrupts
from config.cli import CommandError, add_cluster, add_folder
from results.folder import SPACE_FILE, check_study

if TYPE_CHECKING:
    from search.confirmation.race import Point, Race
    from search.storage.study import Study


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns 0 (done), 2 (user's input), 3 (no front), 4 (environment) or 5 (locked)."""
    arguments = _parser().parse_args(argv)
    resume_command = "python -m search.confirm " + shlex.join(sys.argv[1:] if argv is None else argv)
    return cli.run(lambda: _main(arguments, resume_command))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.confirm", description=(__doc__ or "").split("\n\n")[0])
    add_folder(parser)
    parser.add_argument("--seeds", type=int, default=3, help="fresh seeds of each candidate (default 3)")
    parser.add_argument("--no-test", action="store_true", help="do not read the test set yet")
    add_cluster(parser)
    cli.add_imports(parser, "the study was started with")
    return parser


def _main(arguments: argparse.Namespace, resume_command: str) -> int:
    from config.errors import ConfigError
    from search import sync
    from search.driver import locked_study
    from search.space import reader

    cli.import_packages(arguments.imports)
    folder: Path = arguments.folder
    check_study(folder)
    if not 1 <= arguments.seeds <= 100:
        raise ConfigError(f"--seeds: must be from 1 to 100 (got {arguments.seeds})")
    with locked_study(reader.load(str(folder / SPACE_FILE)), folder) as study:
        _confirm(study, arguments, resume_command)
        try:  # while the study is locked: two drivers would create each run twice
            print(f"MLflow     {sync.deliver(folder, None)}")
        except CommandError as error:
            print(f"{error}: python -m search.sync {shlex.quote(str(folder))}")
    return cli.OK


def _confirm(study: Study, arguments: argparse.Namespace, resume_command: str) -> None:
    from results.from_optuna import study_from_optuna
    from results.report import NAME, write_report
    from search.confirmation.race import Race, candidates

    result, folder = study.result(), arguments.folder
    if not result.front():
        raise CommandError(cli.NOTHING_SUCCEEDED, f"{folder}: the front is empty, so there is nothing to confirm")
    if not result.searched or "seed" in result.searched:
        raise CommandError(cli.USER, "seed is a searched key of this study, so a config has no fresh seeds")
    race = Race(study.space, candidates(result), list(result.attrs.get("confirmed") or []))
    try:
        _train(study, race, arguments)
    except interrupts.Interrupted:
        print(f"\ninterrupted; to resume: {resume_command}", flush=True)
        raise
    print(*table(race, list(result.objectives), study.test_rows() or []), sep="\n")
    write_report(study_from_optuna(study.optuna), folder / NAME, shlex.quote(str(folder)))
    print(f"report     {folder / NAME}")


def _train(study: Study, race: Race, arguments: argparse.Namespace) -> None:
    """Trains all seeds on Ray, and reads the test set."""
    from search.confirmation.retraining import Retraining
    from search.execution import cluster as ray_cluster

    settings = study.space.settings
    try:
        cluster = ray_cluster.start(arguments.address, arguments.insecure_cluster, arguments.imports)
        slots = cluster.concurrency(settings.resources, settings.concurrency)
        retraining = Retraining(study, race, tuple(arguments.imports), slots)
        for number in range(arguments.seeds):
            retraining.run_round(number)
        if not arguments.no_test:
            retraining.read_test()
    finally:
        ray_cluster.stop()


def table(race: Race, objectives: list[str], test_rows: list[dict[str, float]]) -> list[str]:
    """Returns the lines of the result: mean and deviation of each point, its share of resamples, its test accuracy."""
    shares = race.front_shares()
    header = f"{'point':<12}{'seeds':>6}  " + "  ".join(f"{name:>22}" for name in objectives)
    points = sorted(shares, key=lambda point: -shares[point])
    return [
        header + "   on front   test accuracy",
        *(_line(point, race.rows_of(point), objectives, shares[point], test_rows) for point in points),
        *(f"t{trial:04d} failed with a fresh seed: {reason}" for trial, reason in race.failed.items()),
    ]


def _line(
    point: Point, rows: list[dict[str, float]], objectives: list[str], share: float, test_rows: list[dict[str, float]]
) -> str:
    from results.metrics import format_metric

    cells = [f"{_mean_text([row[name] for row in rows], partial(format_metric, name)):>22}" for name in objectives]
    tested = [row["accuracy"] for row in test_rows if (row["trial"], row["read_step"]) == point]
    test = _mean_text(tested, "{:.2f}".format) if tested else ""
    return f"t{point[0]:04d} T={point[1]:<5}{len(rows):>6}  {'  '.join(cells)}   {share:>7.0%}   {test}"


def _mean_text(values: list[float], text: Callable[[float], str]) -> str:
    """Returns the mean of values, with their standard deviation if there are several."""
    return text(mean(values)) + (f" ± {text(stdev(values))}" if len(values) > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
