"""Trains the front again with fresh seeds, and reads the test set at the end: `python -m search.confirm runs/S`.

A search sees each config once, and the lucky ones among them make the front. Here every candidate meets the same fresh
seeds, round by round; one that another clearly beats on every objective drops out. What is left is reported with mean
and spread; then the test set is read, once, for the points that are on the front more often than not.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli, interrupts
from config.cli import CommandError, add_cluster, add_folder
from results.folder import SPACE, check_study

if TYPE_CHECKING:
    from results.study import StudyResult
    from search.storage.study import Study

MOST_CANDIDATES = 20
FRESH = 1000
"""The first fresh seed is this much above the config's own, far from the further seeds that a search may train."""
NAMED = 0.5
"""Points on the front in at least this share of resamples are those whose test accuracy is read."""

Point = tuple[int, int]
"""A trial and the steps after which it is read."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 user's input, 3 no front, 4 environment, 5 locked)."""
    arguments = _parser().parse_args(argv)
    arguments.again = "python -m search.confirm " + shlex.join(sys.argv[1:] if argv is None else argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.confirm", description=(__doc__ or "").split("\n\n")[0])
    add_folder(parser)
    parser.add_argument("--seeds", type=int, default=3, help="fresh seeds for each candidate that stays (default 3)")
    parser.add_argument("--no-test", action="store_true", help="leave the test set unread for now")
    add_cluster(parser)
    cli.add_imports(parser, "the study was started with")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    from config.errors import ConfigError
    from search.driver import check_data, open_study
    from search.space import reader
    from search.space.random_sampling import example
    from search.storage import database, lock

    cli.import_packages(arguments.imports)
    check_study(arguments.folder)
    if not 1 <= arguments.seeds <= 100:
        raise ConfigError(f"--seeds: must be from 1 to 100 (got {arguments.seeds})")
    space = reader.load(str(arguments.folder / SPACE))
    check_data(example(space))
    try:
        with (
            lock.hold(arguments.folder),
            database.open_database(arguments.folder, space.study, space.settings.database) as kept,
        ):
            study = open_study(space, arguments.folder, kept)
            try:
                _confirm(study, arguments)
            finally:
                study.close()
            _deliver(arguments.folder)
    except lock.LockedError as error:
        raise CommandError(cli.LOCKED, str(error)) from None
    return cli.OK


def _deliver(folder: Path) -> None:
    """Writes the new figures to MLflow; where it cannot be reached, says how to do so later."""
    from search import sync

    try:
        print(f"MLflow     {sync.deliver(folder, None)}")
    except CommandError as error:
        print(f"{error}: python -m search.sync {shlex.quote(str(folder))}")


def _confirm(study: Study, arguments: argparse.Namespace) -> None:
    from search.execution import cluster as ray_cluster

    result = study.result()
    if not result.front():
        raise CommandError(
            cli.NOTHING_SUCCEEDED, f"{arguments.folder}: the front is empty, so there is nothing to confirm"
        )
    if not result.searched or "seed" in result.searched:
        raise CommandError(cli.USER, "seed is a searched key of this study, so a config has no fresh seeds")
    race = Confirmation(study, result, list(arguments.imports), list(result.attrs.get("confirmed") or []))
    settings = study.space.settings
    try:
        cluster = ray_cluster.start(arguments.address, arguments.insecure_cluster, arguments.imports)
        interrupts.catch_signals()
        race.slots = cluster.concurrency(settings.resources, settings.concurrency)
        for number in range(arguments.seeds):
            race.run_round(number)
        if not arguments.no_test:
            race.read_test()
    except ray_cluster.ClusterError as error:
        raise CommandError(cli.ENVIRONMENT, str(error)) from None
    except interrupts.Interrupted:
        print(f"\ninterrupted; to go on: {arguments.again}", flush=True)
        raise
    finally:
        ray_cluster.stop()
    for line in race.table():
        print(line)
    _write_report(study, arguments.folder)


@dataclass
class Confirmation:
    """The candidates of one study and what their fresh seeds gave; each training is noted when it is done."""

    study: Study
    result: StudyResult
    imports: list[str]
    confirmed: list[dict[str, Any]]
    slots: int = 1
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.points: list[Point] = _candidates(self.result)

    def samples(self) -> dict[Point, list[list[float]]]:
        """Returns the objectives, to be minimised, that each point's fresh seeds gave."""
        from search.space.objectives import point

        found: dict[Point, list[list[float]]] = {}
        for record in self.confirmed:
            key = (record["trial"], record["read_step"])
            if key in self.points and key[0] not in self.failed:
                found.setdefault(key, []).append(point(self.study.space, record, minimise=True))
        return found

    def racing(self) -> list[int]:
        """Returns the trials of which a point has not clearly lost."""
        from search.confirmation import race as racing

        lost = racing.losers(self.samples())
        return sorted({trial for trial, step in self.points if (trial, step) not in lost and trial not in self.failed})

    def run_round(self, number: int) -> None:
        """Trains each candidate that is still racing with one more fresh seed."""
        from search.execution import batching
        from search.execution.worker import retrain, run_all

        known = {(record["trial"], record["seed"]) for record in self.confirmed}
        racing = self.racing()
        wanted = [(trial, self._own_seed(trial) + FRESH + number) for trial in racing]
        todo = [self._task(trial, seed) for trial, seed in wanted if (trial, seed) not in known]
        print(f"seed {number + 1}: {len(racing)} candidates, {len(todo)} to train", flush=True)
        space = self.study.space
        grouped = batching.batch_positions(
            [task["config"] for task in todo], batching.max_batch_size(space), self.slots
        )
        batches = [[todo[i] for i in positions] for positions in grouped]
        for position, found in run_all(retrain, batches, space.settings.resources, self.slots):
            for i, task in enumerate(batches[position]):
                self._note(task, found[i] if isinstance(found, list) else found)

    def read_test(self) -> None:
        """Reads the test set for the points that are named, once for the study, and notes when."""
        from search.execution.worker import evaluate_test, run_all

        if self.study.optuna.user_attrs.get("tested"):
            print("the test set was read for this study before; its figures stand")
            return
        named = {trial for trial, step in self.named()}
        if not named:
            print(f"no point is on the front in {NAMED:.0%} of the resamples: the test set is not read")
            return
        trained = sorted({(r["trial"], r["seed"]) for r in self.confirmed if r["trial"] in named})
        todo = [self._task(trial, seed) for trial, seed in trained]
        rows: list[dict[str, Any]] = []
        for position, found in run_all(evaluate_test, todo, self.study.space.settings.resources, self.slots):
            if "failure" in found:
                raise CommandError(cli.ENVIRONMENT, found["reason"])
            rows += [
                {"trial": todo[position]["trial"], "seed": todo[position]["seed"], **r} for r in found["read_outs"]
            ]
        rows = [row for row in rows if (row["trial"], row["read_step"]) in self.points]
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.study.optuna.set_user_attr(
            "tested", {"time": at, "rows": sorted(rows, key=lambda r: (r["trial"], r["seed"]))}
        )

    def named(self) -> list[Point]:
        """Returns the points that are on the front in at least half of the resamples."""
        from search.confirmation import race as racing

        return [point for point, share in racing.front_shares(self.samples()).items() if share >= NAMED]

    def table(self) -> list[str]:
        """Returns the lines of the result: mean and spread of each point, its share of resamples, its test accuracy."""
        from statistics import mean, stdev

        from results.metrics import format_metric
        from search.confirmation import race as racing

        samples = self.samples()
        shares = racing.front_shares(samples) if samples else {}
        tested = (self.study.optuna.user_attrs.get("tested") or {}).get("rows", [])
        names = list(self.result.objectives)
        lines = [
            f"{'point':<12}{'seeds':>6}  " + "  ".join(f"{name:>22}" for name in names) + "   on front   test accuracy"
        ]
        for key in sorted(samples, key=lambda k: -shares[k]):
            records = [r for r in self.confirmed if (r["trial"], r["read_step"]) == key]
            cells = []
            for name in names:
                values = [record[name] for record in records]
                spread = f" ± {format_metric(name, stdev(values))}" if len(values) > 1 else ""
                cells.append(f"{format_metric(name, mean(values)) + spread:>22}")
            test = [row["accuracy"] for row in tested if (row["trial"], row["read_step"]) == key]
            shown = "" if not test else f"{mean(test):.2f}" + (f" ± {stdev(test):.2f}" if len(test) > 1 else "")
            lines.append(
                f"t{key[0]:04d} T={key[1]:<5}{len(records):>6}  {'  '.join(cells)}   {shares[key]:>7.0%}   {shown}"
            )
        lines += [f"t{trial:04d} failed with a fresh seed: {reason}" for trial, reason in self.failed.items()]
        return lines

    def _task(self, trial: int, seed: int) -> dict[str, Any]:
        from search.storage.checkpoint_store import store_uri
        from search.storage.study_metadata import machine_values

        folder = self.study.folder / "confirm" / f"t{trial:04d}-s{seed}"
        config = {**self.result.trial(trial).config, **machine_values(self.study.space), "seed": seed}
        return {
            "trial": trial,
            "seed": seed,
            "config": config,
            "folder": str(folder.absolute()),
            "imports": self.imports,
            "store_uri": store_uri(self.study.space, folder.relative_to(self.study.folder)),
        }

    def _own_seed(self, trial: int) -> int:
        return int(self.result.trial(trial).config["seed"])

    def _note(self, task: dict[str, Any], found: dict[str, Any]) -> None:
        name = f"t{task['trial']:04d} seed {task['seed']}"
        if found.get("failure") == "environment":
            raise CommandError(cli.ENVIRONMENT, found["reason"])
        if "failure" in found:
            self.failed[task["trial"]] = f"{found['failure']}: {found['reason']}"
            print(f"{name}  failed    {self.failed[task['trial']]}", flush=True)
            return
        for read_out in found["read_outs"]:
            record = {"trial": task["trial"], "seed": task["seed"], **read_out}
            self.confirmed.append(record)
        self.study.optuna.set_user_attr("confirmed", self.confirmed)
        last = found["read_outs"][-1]
        print(f"{name}  accuracy {last['accuracy']:.2f}  spike_rate {last['spike_rate']:.4g}", flush=True)


def _candidates(result: StudyResult) -> list[Point]:
    """Returns the front's points; of many the best spread ones. Further seeds of a config stand for that config."""
    from results import pareto

    front = result.front()
    if len(front) > MOST_CANDIDATES:
        unit = pareto.scaled([result.values(point) for point in front])
        front = [front[i] for i in pareto.epsilon_net(unit, MOST_CANDIDATES)]
    first: dict[str, int] = {}
    names = {trial.number: json.dumps({**trial.config, "seed": 0}, sort_keys=True) for trial in result.trials}
    for number, name in names.items():
        first.setdefault(name, number)
    return sorted({(first[names[point.trial]], point.read_step) for point in front})


def _write_report(study: Study, folder: Path) -> None:
    from results.load import from_optuna
    from results.report import NAME, write_report

    write_report(from_optuna(study.optuna), folder / NAME, shlex.quote(str(folder)))
    print(f"report     {folder / NAME}")


if __name__ == "__main__":
    sys.exit(main())
