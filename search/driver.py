"""One search from open to close: study, cluster, trials, results."""

from __future__ import annotations

import gc
import importlib
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli, interrupts
from config.cli import CommandError
from config.errors import ConfigError
from config.files import write_atomic
from config.uris import redact
from results.folder import SPACE
from search.execution import batching
from search.space import reader
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.datasets import EMBEDDED, DataError

if TYPE_CHECKING:
    from results.study import StudyResult
    from search.space.space import Space
if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from search.execution.cluster import Cluster
    from search.execution.node_checks import NodeRegistry
    from search.storage.study import Study
    from search.tracking.mlflow_uploader import MlflowUploader


MLFLOW_S, INTERRUPTED_MLFLOW_S = 60.0, 3.0
"""Seconds that MLflow may take at the end of a search for what is still missing there."""


OLDEST = 2
"""The generation of objects that a full collection of garbage looks through."""


@dataclass(frozen=True)
class RunOptions:
    """How a study is run: the folder of all studies, the cluster, the command to resume, the user's packages, whether
    the cluster may be one that takes anybody, and whether MLflow notes how busy this machine is."""

    out: Path
    address: str | None = None
    again: str = ""
    imports: tuple[str, ...] = ()
    insecure: bool = False
    system_metrics: bool = False


def run_in_folder(space: Space, how: RunOptions) -> int:
    """Runs or goes on with the study in `out/<study>`, and returns the exit code."""
    from search.space.random_sampling import example
    from search.storage import database, lock

    config = example(space)
    check_data(config)
    folder = how.out / space.study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.hold(folder), database.open_database(folder, space.study, space.settings.database) as kept:
            return _search(space, folder, how, kept)
    except lock.LockedError as error:
        raise CommandError(cli.LOCKED, str(error)) from None
    except (NotADirectoryError, FileExistsError):
        raise ConfigError(
            f"--out {how.out}: a file is in the place of {folder}; name a folder for all studies"
        ) from None
    except OSError as error:
        raise CommandError(cli.ENVIRONMENT, f"{folder}: {error}") from error


def check_data(config: TrainConfig) -> None:
    """Raises Failed where files of the data set are missing."""
    if config.dataset in EMBEDDED:
        return
    from trainers.data.sources import check_present  # imports torch, which a driver can do without

    try:
        check_present(config)
    except DataError as error:
        raise CommandError(cli.ENVIRONMENT, str(error)) from None


def open_study(space: Space, folder: Path, kept: BaseStorage | None) -> Study:
    """Returns the study, which is in its folder where `kept` is None.

    Raises ConfigError where the folder's database cannot be read.
    """
    import results
    from results.metrics import ResultsError
    from search.storage.database import open_storage
    from search.storage.study import Study

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


def _check_checkpoint_store(address: str | None) -> None:
    """Raises Failed where checkpoints cannot be written to where they are to be kept."""
    if address is None:
        return
    from search.storage.checkpoint_store import CheckpointStore

    try:
        CheckpointStore(address).check_writable()
    except Exception as error:  # pyarrow raises several kinds
        raise CommandError(cli.ENVIRONMENT, f"storage {redact(address)}: cannot be written ({error})") from None


def _search(space: Space, folder: Path, how: RunOptions, kept: BaseStorage | None) -> int:
    from search.execution import cluster as ray_cluster
    from search.execution import head_monitor
    from search.storage import requests
    from search.tracking import mlflow_mirror
    from search.tracking.mlflow_uploader import START_S, MlflowUploader

    _check_checkpoint_store(space.settings.checkpoints)
    study = open_study(space, folder, kept)
    write_atomic(folder / SPACE, space.yaml())
    uri, artifacts = mlflow_mirror.resolve_store(space.settings.tracking_uri, folder)
    courier = MlflowUploader(uri, artifacts, folder, study.result, how.system_metrics, START_S)
    print(f"study {space.study} in {folder}", flush=True)
    for name, _, problem in space.initial_configs() if not study.trials else ():
        if problem is not None:
            print(f"start with {name}: left out: {problem}", flush=True)
    if study.trials:
        ended = len(study.started()) - len(study.unfinished)
        print(f"going on: {ended} trials have ended, {len(study.unfinished)} are taken up again", flush=True)
    try:
        requests.RequestHandler(study).process_leftover()
        if not study.is_finished():
            threading.Thread(
                target=importlib.import_module, args=("search.execution.tuner",)
            ).start()  # while Ray's processes start
            with interrupts.deferred():
                cluster = ray_cluster.start(how.address, how.insecure, how.imports)
                interrupts.catch_signals()  # Ray takes SIGTERM for itself
            with (
                head_monitor.monitored(ray_cluster.head(), how.again),
                _checked_nodes(cluster, study, how.address) as nodes,
            ):
                _execute(study, cluster, courier, how.imports, nodes)
        with _in_background(ray_cluster.stop):
            return _finish(study, courier, folder, uri)
    except ray_cluster.ClusterError as error:
        raise CommandError(cli.ENVIRONMENT, str(error)) from None
    except interrupts.Interrupted:
        _suspend(study, courier, f"interrupted; to go on: {how.again}")
        raise
    except CommandError as error:
        if error.code == cli.ENVIRONMENT:
            _suspend(study, courier, f"the search has to end; nothing is lost. To go on: {how.again}")
        raise
    finally:
        courier.stop()
        study.close()
        ray_cluster.stop()


def _suspend(study: Study, courier: MlflowUploader, sentence: str) -> None:
    """Leaves a search that may go on later."""
    study.save_hours()
    missing = courier.finish("KILLED", INTERRUPTED_MLFLOW_S)
    print("\n" + "\n".join(filter(None, [missing, sentence])), flush=True)


@contextmanager
def _in_background(work: Callable[[], None]) -> Iterator[None]:
    """Does the work in a thread while what is inside is done, and waits for it."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _checked_nodes(cluster: Cluster, study: Study, address: str | None) -> Iterator[NodeRegistry | None]:
    """Yields the nodes of a cluster that was joined, each of which has been looked at; None for this machine alone."""
    if address is None:
        yield None
        return
    from search.execution import node_checks as nodes
    from search.space.random_sampling import example

    is_shared = study.space.settings.checkpoints is None
    with nodes.node_registry(study.folder, example(study.space).data_dir, _warn, is_shared=is_shared) as roster:
        roster.check(cluster)
        yield roster


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", flush=True)


def _execute(
    study: Study, cluster: Cluster, courier: MlflowUploader, imports: tuple[str, ...], nodes: NodeRegistry | None
) -> None:
    from search.display import live
    from search.execution import tuner
    from search.execution.cluster import Slots
    from search.storage import lock, requests

    settings = study.space.settings
    concurrency = cluster.concurrency(settings.resources, settings.concurrency)
    print(_slots_line(concurrency, cluster), flush=True)
    if settings.fuse != 1:
        print(batching.description(study.space), flush=True)
    lock.update(study.folder, concurrency, study.hours_before)
    with live.LiveView(study, concurrency) as shown:
        desk = requests.RequestHandler(study, shown.print_line)

        def changed(number: int) -> None:
            courier.mark_changed()
            shown.update(number)

        def between() -> None:
            desk.poll()
            if (news := courier.tick()) is not None:
                shown.print_line(news)
            shown.tick()

        def slots_changed(count: int, now: Cluster) -> None:
            shown.print_line(_slots_line(count, now))
            shown.slots = count
            lock.update(study.folder, count, study.hours_before)

        desk.on_change = changed
        slots = Slots(settings.resources, settings.concurrency, concurrency, slots_changed)
        if nodes is not None:
            nodes.say, slots.unfit = shown.print_line, nodes.unfit
        with _few_collections():
            tuner.run_trials(study, slots, changed, imports, between, batching.max_batch_size(study.space), nodes)


@contextmanager
def _few_collections() -> Iterator[None]:
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


def _finish(study: Study, courier: MlflowUploader, folder: Path, uri: str) -> int:
    from results.analysis.front import write_front_csv
    from results.load import from_optuna
    from results.plots import write_front_png
    from results.report import NAME, write_report
    from search.display import summary

    finish_study(study)
    result = study.result()
    write_front_csv(result, folder / "front.csv")
    write_front_png(result, folder / "front.png")
    write_report(from_optuna(study.optuna), folder / NAME, shlex.quote(str(folder)))
    summary.show(study, folder, redact(uri), courier.finish("FINISHED", MLFLOW_S))
    if study.repeated_failure() is not None:
        raise CommandError(cli.NOTHING_SUCCEEDED, summary.repeated_failures(study))
    if not result.select("complete"):
        raise CommandError(cli.NOTHING_SUCCEEDED, summary.no_success(result))
    return cli.OK


def finish_study(study: Study) -> None:
    """Ends a search that has nothing left to run; where five trials failed alike, those that wait may still go on."""
    study.save_hours()
    if study.repeated_failure() is None:
        study.finish()
    study.download_front_checkpoints()


def run_study(
    space: str | os.PathLike[str] | Mapping[str, Any] | Space,
    out: str | os.PathLike[str] = "runs",
    *,
    address: str | None = None,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> StudyResult:
    """Runs a search, or goes on with it, and returns its results; a finished one is only read.

    `space` is a space file, its content as a mapping, or a Space; `overrides` are `key=value` texts as for `--set`;
    `imports` are packages of one's own that register models or data sets. Raises ConfigError for the user's input
    and config.cli.Failed where no trial succeeds or the environment fails; Ctrl-C raises KeyboardInterrupt,
    and the same call goes on.
    """
    import results
    from config import cli, interrupts
    from config.strict_yaml import Document
    from search import driver
    from search.space.space import Space
    from trainers.config import override

    cli.import_packages(imports)
    if isinstance(space, Mapping):
        checked = reader.read(override(Document("space", dict(space)), overrides))
    elif isinstance(space, Space):
        checked = space
    else:
        checked = reader.load(os.fspath(space), list(overrides))
    try:
        with interrupts.signals():
            driver.run_in_folder(checked, driver.RunOptions(Path(out), address, "the same call", tuple(imports)))
    except interrupts.Interrupted:
        interrupts.forgive()
        raise KeyboardInterrupt from None
    return results.load(Path(out) / checked.study)
