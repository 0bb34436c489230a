"""Confirms the front with fresh seeds: `python -m search.confirm runs/S`.

A search trains each config once, so its front favours lucky configs. Here all candidates are trained with the same
fresh seeds, round by round. One that another clearly beats on every objective drops out, and so does one that clearly
breaks a constraint. From then on the means over these seeds give the study's front. With `--test`, the test set is
read, once, for the points of this front.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from config import cli, interrupts
from config.cli import CommandError, add_cluster, add_folder
from results.folder import SPACE_FILE, check_study

if TYPE_CHECKING:
    from results.study import FrontPoint, StudyResult
    from results.study.seeds import Spread
    from search.confirmation.race import Race
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
    parser.add_argument("--test", action="store_true", help="at the end, read the test set, once per study")
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
    from search.confirmation.race import Race, candidates
    from search.driver import write_results

    result, folder = study.result(), arguments.folder
    if not result.unconfirmed().front():
        raise CommandError(cli.NOTHING_SUCCEEDED, f"{folder}: the front is empty, so there is nothing to confirm")
    if not result.searched or "seed" in result.searched:
        raise CommandError(cli.USER, "seed is a searched key of this study, so a config has no fresh seeds")
    race = Race(study.space, candidates(result), list(result.attrs.get("confirmed") or []))
    try:
        _train(study, race, arguments)
    except interrupts.Interrupted:
        print(f"\ninterrupted; to resume: {resume_command}", flush=True)
        raise
    result = study.result()
    print(*table(race, result, with_test=arguments.test), sep="\n")
    for path in write_results(result, folder):
        print(f"wrote      {path}")


def _train(study: Study, race: Race, arguments: argparse.Namespace) -> None:
    """Trains all seeds on Ray, and reads the test set with `--test`."""
    from search.confirmation.retraining import Retraining
    from search.execution import cluster as ray_cluster

    settings = study.space.settings
    try:
        cluster = ray_cluster.start(arguments.address, arguments.insecure_cluster, arguments.imports)
        slots = cluster.concurrency(settings.resources, settings.concurrency)
        retraining = Retraining(study, race, tuple(arguments.imports), slots)
        for number in range(arguments.seeds):
            retraining.run_round(number)
        study.end_confirmation(race.reasons(of_machine=False), skipped=race.reasons(of_machine=True))
        if arguments.test:
            retraining.read_test(point.trial for point in study.result().front())
    finally:
        ray_cluster.stop()


def table(race: Race, result: StudyResult, *, with_test: bool) -> list[str]:
    """Returns the lines of the result: each point's means and deviations, share of resamples and broken constraints."""
    shares, objectives = race.front_shares(), list(result.objectives)
    front = {point.read_out for point in result.front()}
    points = sorted(front.union(race.points) & shares.keys(), key=lambda point: (-shares[point], point))
    header = f"{'point':<12}{'seeds':>6}  " + "  ".join(f"{name:>22}" for name in objectives) + "   on front"
    return [
        header + ("   test accuracy" if with_test else ""),
        *(_line(result, result.point(*point), shares[point], with_test) for point in points),
        *(
            f"t{number:04d} failed with a fresh seed: {reason}"
            for of_machine in (False, True)
            for number, reason in race.reasons(of_machine=of_machine).items()
        ),
    ]


def _line(result: StudyResult, point: FrontPoint, share: float, with_test: bool) -> str:
    from results.metrics import format_metric
    from results.study.constraints import broken

    cells = [f"{_spread_text(point.spreads[name], partial(format_metric, name)):>22}" for name in result.objectives]
    line = f"{point.key} T={point.read:<5}{point.seeds:>6}  {'  '.join(cells)}   {share:>8.0%}"
    if with_test:
        tested = point.test.get("accuracy")
        line += f"   {'' if tested is None else _spread_text(tested, '{:.2f}'.format):>13}"
    return "   ".join([line, *broken(result, point)]).rstrip()


def _spread_text(spread: Spread, text: Callable[[float], str]) -> str:
    """Returns a mean, with the standard deviation if there are several seeds."""
    return text(spread.mean) + (f" ± {text(spread.deviation)}" if spread.seeds > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
