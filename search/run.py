"""The main command: `python -m search.run spaces/quickstart.yml` searches, logs, and prints the front."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import gc
import importlib
import json
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.config import ConfigError
from results.files import write_atomic
from results.folder import SPACE
from search import groups, space_file
from search.arguments import add_cluster
from search.space import Space, check_name
from trainers import command
from trainers.command import Failed
from trainers.config import TrainConfig
from trainers.datasets import EMBEDDED, DataError
from trainers.uris import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from search.cluster import Cluster
    from search.courier import Courier
    from search.nodes import Roster
    from search.study import Study

MLFLOW_S, INTERRUPTED_MLFLOW_S = 60.0, 3.0
"""Seconds that MLflow may take at the end of a search for what is still missing there."""

OLDEST = 2
"""The generation of objects that a full collection of garbage looks through."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 user's input, 3 no success, 4 environment, 5 locked)."""
    arguments = _parser().parse_args(argv)
    again = "python -m search.run " + shlex.join(map(redact, sys.argv[1:] if argv is None else argv))
    return command.run(lambda: _main(arguments, again))


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="python -m search.run", description=__doc__)
    parser.add_argument("space", metavar="SPACE.yml", help="the space file")
    parser.add_argument("--name", help="another name for the study than the file gives")
    parser.add_argument("--trials", type=int, help="budget.trials")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the space file")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder that holds the studies")
    add_cluster(parser)
    parser.add_argument("--system-metrics", action="store_true", help="have MLflow note how busy this machine is: CPU, "
                        "memory, disk, network, GPUs")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show what would be searched, and touch nothing")
    command.add_imports(parser, "registers models or data sets")
    return parser


def _main(arguments: argparse.Namespace, again: str) -> int:
    command.import_packages(arguments.imports)
    space = load(arguments)
    fused = groups.sentence(space)
    if arguments.dry_run:
        from search import forecast

        for line in forecast.lines(space, space.settings.concurrency):
            print(line)
        if space.settings.fuse != 1:
            print(fused)
        return command.OK
    imports, insecure, system = tuple(arguments.imports), arguments.insecure_cluster, arguments.system_metrics
    return run_in_folder(space, Run(arguments.out, arguments.address, again, imports, insecure, system))


def load(arguments: argparse.Namespace) -> Space:
    """Returns the space that a command line asks for."""
    overrides = list(arguments.set)
    if arguments.name is not None:
        try:
            check_name(arguments.name)
        except ValueError as error:
            raise ConfigError(f"--name: {error}") from None
        overrides.append(f"study={json.dumps(arguments.name)}")  # a name that reads as a number is text
    if arguments.trials is not None:
        overrides.append(f"budget.trials={arguments.trials}")
    return space_file.load(arguments.space, overrides)


@dataclass(frozen=True)
class Run:
    """How a study is run: the folder of all studies, the cluster, the command to resume, the user's packages, whether
    the cluster may be one that takes anybody, and whether MLflow notes how busy this machine is."""

    out: Path
    address: str | None = None
    again: str = ""
    imports: tuple[str, ...] = ()
    insecure: bool = False
    system_metrics: bool = False


def run_in_folder(space: Space, how: Run) -> int:
    """Runs or goes on with the study in `out/<study>`, and returns the exit code."""
    from search import lock, security, storage
    from search.dice import example

    config = example(space)
    if (old := security.too_old()) is not None:
        raise Failed(command.ENVIRONMENT, old)
    check_data(config)
    folder = how.out / space.study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.hold(folder), storage.opened(folder, space.study, space.settings.database) as kept:
            return _search(space, folder, how, kept)
    except lock.LockedError as error:
        raise Failed(command.LOCKED, str(error)) from None
    except (NotADirectoryError, FileExistsError):
        raise ConfigError(
            f"--out {how.out}: a file is in the place of {folder}; name a folder for all studies"
        ) from None
    except OSError as error:
        raise Failed(command.ENVIRONMENT, f"{folder}: {error}") from error


def check_data(config: TrainConfig) -> None:
    """Raises Failed where files of the data set are missing."""
    if config.dataset in EMBEDDED:
        return
    from trainers.data import check_present  # imports torch, which a driver can do without

    try:
        check_present(config)
    except DataError as error:
        raise Failed(command.ENVIRONMENT, str(error)) from None


def open_study(space: Space, folder: Path, kept: BaseStorage | None) -> Study:
    """Returns the study, which is in its folder where `kept` is None.

    Raises ConfigError where the folder's database cannot be read.
    """
    import results
    from results.metrics import ResultsError
    from search.storage import open_storage
    from search.study import Study

    try:
        return Study(space, folder, kept or open_storage(folder))
    except ConfigError:
        raise
    except Exception as error:  # a database that is damaged raises anything
        if kept is not None:
            raise
        try:
            results.load(folder)
        except ResultsError as damaged:
            raise ConfigError(str(damaged)) from error
        raise


def _check_depot(address: str | None) -> None:
    """Raises Failed where checkpoints cannot be written to where they are to be kept."""
    if address is None:
        return
    from search import depot

    try:
        depot.check(address)
    except Exception as error:  # pyarrow raises several kinds
        raise Failed(command.ENVIRONMENT, f"storage {redact(address)}: cannot be written ({error})") from None


def _search(space: Space, folder: Path, how: Run, kept: BaseStorage | None) -> int:
    from search import cluster as ray_cluster
    from search import lifeline, orders, tracking
    from search.courier import START_S, Courier

    _check_depot(space.settings.checkpoints)
    study = open_study(space, folder, kept)
    write_atomic(folder / SPACE, space.yaml())
    uri, artifacts = tracking.place(space.settings.tracking_uri, folder)
    courier = Courier(uri, artifacts, folder, study.result, how.system_metrics, START_S)
    print(f"study {space.study} in {folder}", flush=True)
    for name, _, problem in space.recipes() if not study.records else ():
        if problem is not None:
            print(f"start with {name}: left out: {problem}", flush=True)
    if study.records:
        ended = len(study.started()) - len(study.unfinished)
        print(f"going on: {ended} trials have ended, {len(study.unfinished)} are taken up again", flush=True)
    try:
        orders.Desk(study).open()
        if not study.is_over():
            threading.Thread(
                target=importlib.import_module, args=("search.tune",)
            ).start()  # while Ray's processes start
            with command.deferred():
                cluster = ray_cluster.start(how.address, how.insecure, how.imports)
                command.catch_signals()  # Ray takes SIGTERM for itself
            with lifeline.held(ray_cluster.head(), how.again), _looked_at(cluster, study, how.address) as nodes:
                _execute(study, cluster, courier, how.imports, nodes)
        with _at_once(ray_cluster.stop):
            return _finish(study, courier, folder, uri)
    except ray_cluster.ClusterError as error:
        raise Failed(command.ENVIRONMENT, str(error)) from None
    except command.Interrupted:
        _leave(study, courier, f"interrupted; to go on: {how.again}")
        raise
    except Failed as error:
        if error.code == command.ENVIRONMENT:
            _leave(study, courier, f"the search has to end; nothing is lost. To go on: {how.again}")
        raise
    finally:
        courier.stop()
        study.close()
        ray_cluster.stop()


def _leave(study: Study, courier: Courier, sentence: str) -> None:
    """Leaves a search that may go on later."""
    study.note_hours()
    missing = courier.finish("KILLED", INTERRUPTED_MLFLOW_S)
    print("\n" + "\n".join(filter(None, [missing, sentence])), flush=True)


@contextmanager
def _at_once(work: Callable[[], None]) -> Iterator[None]:
    """Does the work in a thread while what is inside is done, and waits for it."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _looked_at(cluster: Cluster, study: Study, address: str | None) -> Iterator[Roster | None]:
    """Yields the nodes of a cluster that was joined, each of which has been looked at; None for this machine alone."""
    if address is None:
        yield None
        return
    from search import nodes
    from search.dice import example

    is_shared = study.space.settings.checkpoints is None
    with nodes.roster(study.folder, example(study.space).data_dir, _warn, is_shared=is_shared) as roster:
        roster.look(cluster)
        yield roster


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", flush=True)


def _execute(study: Study, cluster: Cluster, courier: Courier, imports: tuple[str, ...], nodes: Roster | None) -> None:
    from search import lock, orders, progress, tune
    from search.cluster import Slots

    settings = study.space.settings
    concurrency = cluster.concurrency(settings.resources, settings.concurrency)
    print(_slots_line(concurrency, cluster), flush=True)
    if settings.fuse != 1:
        print(groups.sentence(study.space), flush=True)
    lock.note(study.folder, concurrency, study.hours_before)
    with progress.Progress(study, concurrency) as shown:
        desk = orders.Desk(study, shown.say)

        def changed(number: int) -> None:
            courier.changed()
            shown.update(number)

        def between() -> None:
            desk.poll()
            if (news := courier.tick()) is not None:
                shown.say(news)
            shown.tick()

        def slots_changed(count: int, now: Cluster) -> None:
            shown.say(_slots_line(count, now))
            shown.slots = count
            lock.note(study.folder, count, study.hours_before)

        desk.changed = changed
        slots = Slots(settings.resources, settings.concurrency, concurrency, slots_changed)
        if nodes is not None:
            nodes.say, slots.unfit = shown.say, nodes.unfit
        with _little_garbage():
            tune.execute(study, slots, changed, imports, between, groups.size(study.space), nodes)


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Has the collector of garbage look through nothing twice.

    What is loaded stays, and so do the trials: to look through them again and again would hold up the loop for a tenth
    of a second at a time. In the end all garbage goes at once, before Ray does: a handle of Ray's that is let go while
    Ray stops in another thread ends the process.
    """

    def freeze(phase: str, found: dict[str, int]) -> None:
        if phase == "stop" and found["generation"] == OLDEST:
            gc.freeze()

    gc.freeze()
    gc.callbacks.append(freeze)
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _slots_line(count: int, cluster: Cluster) -> str:
    return f"{count} trials at a time on {cluster.cpus:g} CPU and {cluster.gpus:g} GPU"


def _finish(study: Study, courier: Courier, folder: Path, uri: str) -> int:
    from results.front import write_front_csv
    from results.load import from_optuna
    from results.plots import write_front_png
    from results.report import NAME, write_report
    from search import closing

    end(study)
    result = study.result()
    write_front_csv(result, folder / "front.csv")
    write_front_png(result, folder / "front.png")
    write_report(from_optuna(study.optuna), folder / NAME, shlex.quote(str(folder)))
    closing.show(study, folder, redact(uri), courier.finish("FINISHED", MLFLOW_S))
    if study.broken() is not None:
        raise Failed(command.NOTHING_SUCCEEDED, closing.repeated_failures(study))
    if not result.select("complete"):
        raise Failed(command.NOTHING_SUCCEEDED, closing.no_success(result))
    return command.OK


def end(study: Study) -> None:
    """Ends a search that has nothing left to run; where five trials failed alike, those that wait may still go on."""
    study.note_hours()
    if study.broken() is None:
        study.finish()
    study.bring_home()


if __name__ == "__main__":
    code = main()
    gc.freeze()  # or the interpreter spends a second on its way out, in search of garbage
    sys.exit(code)
