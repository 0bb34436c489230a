"""One search from open to close: study, cluster, trials, results."""

from __future__ import annotations

import importlib
import os
import shlex
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli, interrupts
from config.cli import CommandError
from config.errors import ConfigError
from config.files import write_atomic
from config.uris import redact
from results.folder import SPACE_FILE
from results.metrics import counted
from search.execution import batching
from search.space import reader
from search.space.space import Space
from search.storage import lock, preconditions

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from results.study import StudyResult
    from search.display.live import LiveView
    from search.execution.cluster import Cluster
    from search.execution.node_checks import NodeRegistry
    from search.storage.study import Study
    from search.tracking.mlflow_uploader import MlflowUploader

MLFLOW_S, INTERRUPTED_MLFLOW_S = 60.0, 3.0
"""Seconds that MLflow may take at the end of a search for the data that it still lacks."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run: the folder of all studies, the cluster's address, the command to resume and the user's
    packages. They also say whether an unauthenticated cluster is accepted, whether MLflow logs the machine's load, and
    whether only the first fronts are trained to the end, by which command."""

    out: Path
    address: str | None = None
    resume_command: str = ""
    imports: tuple[str, ...] = ()
    insecure: bool = False
    system_metrics: bool = False
    finish: bool = False
    finish_command: str = ""


def run_in_folder(space: Space, options: RunOptions) -> int:
    """Runs or resumes the study in `out/<study>` and returns the exit code."""
    from search.tracking import mlflow_mirror

    folder = options.out / space.study
    if options.finish:
        preconditions.check_started(folder)
    if options.address is None:
        preconditions.check_gpu(space.settings.resources, space.example)
    mlflow_mirror.resolve_store(space.settings.tracking_uri, folder)  # raises an error before anything is written
    try:
        with locked_study(space, folder) as study:
            return _search(study, options)
    except BrokenPipeError:  # of the output
        raise
    except (NotADirectoryError, FileExistsError):
        raise ConfigError(
            f"--out {options.out}: {folder} cannot be a folder, as a file is in its path; give a folder for all studies"
        ) from None
    except OSError as error:
        raise CommandError(cli.ENVIRONMENT, f"{folder}: {error}") from error


@contextmanager
def locked_study(space: Space, folder: Path) -> Iterator[Study]:
    """Yields the study in a folder, locked for other drivers, after a check of its data set and checkpoint store.

    Raises CommandError if another driver holds it or a check fails, and ConfigError if its database cannot be read.
    """
    from search.storage import database

    preconditions.check_initial_checkpoints(space)
    preconditions.check_data(space.example)
    preconditions.check_checkpoint_store(space.settings.checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock.hold(folder), database.open_database(folder, space.study, space.settings.database) as storage:
            study = _open_study(space, folder, storage)
            try:
                yield study
            finally:
                study.close()
    except lock.LockedError as error:
        raise CommandError(cli.LOCKED, str(error)) from None


def _open_study(space: Space, folder: Path, storage: BaseStorage | None) -> Study:
    import results
    from search.storage.database import open_storage
    from search.storage.study import Study

    try:
        return Study(space, folder, storage or open_storage(folder))
    except ConfigError:
        raise
    except Exception:  # a damaged database raises anything
        if storage is None:
            results.load(folder)  # raises ConfigError if the database is damaged
        raise


def _search(study: Study, options: RunOptions) -> int:
    from search.execution import cluster as ray_cluster
    from search.storage.requests import RequestHandler
    from search.tracking import mlflow_mirror
    from search.tracking.mlflow_uploader import START_DELAY_S, MlflowUploader

    write_atomic(study.folder / SPACE_FILE, study.space.yaml())
    uri, artifacts = mlflow_mirror.resolve_store(study.space.settings.tracking_uri, study.folder)
    uploader = MlflowUploader(uri, artifacts, study.folder, study.result, options.system_metrics, START_DELAY_S)
    _print_start(study)
    if study.space.settings.tracking_uri is None and mlflow_mirror.environment_uri() is not None:
        print(f"MLflow     {redact(uri)} (from {mlflow_mirror.ENVIRONMENT_URI})", flush=True)
    try:
        RequestHandler(study).process_leftover()
        if options.finish:
            _finish_front(study)
        if not study.is_finished():
            _run_on_cluster(study, options, uploader)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ray_cluster.stop)  # takes a second, in which the report is written
            return _finish(study, uploader, uri, options.finish_command)
    except ray_cluster.ClusterError:
        raise
    except interrupts.Interrupted:
        _suspend(study, uploader, f"interrupted; to resume: {options.resume_command}")
        raise
    except CommandError as error:
        if error.code == cli.ENVIRONMENT:
            _suspend(study, uploader, f"the search stops; nothing is lost. To resume: {options.resume_command}")
        raise
    finally:
        uploader.stop()
        ray_cluster.stop()


def _print_start(study: Study) -> None:
    from search.algorithm.trial import ALIVE
    from search.display import summary
    from search.space.refused_options import refused_options

    print(f"study {study.space.study} in {study.folder}", flush=True)
    if study.trials:
        is_finished = study.is_finished()  # then a trial that was interrupted waits, too
        counts = Counter("paused" if is_finished and t.state in ALIVE else t.state for t in study.started())
        finished = counts.total() - counts["running"] - counts["paused"]
        paused = f", {counts['paused']} are paused" if counts["paused"] else ""
        print(f"resuming: {counted(finished, 'trial')} finished, {counts['running']} will continue{paused}", flush=True)
        return
    if (warning := summary.small_space(study.space)) is not None:
        print(warning, flush=True)
    for sentence in refused_options(study.space):
        print(sentence, flush=True)
    for name, _, problem in study.space.initial_configs:
        if problem is not None:
            print(f"start with {name}: left out: {problem}", flush=True)


def _finish_front(study: Study) -> None:
    """Restricts the search to the trials that wait on the first fronts, and prints how many there are."""
    study.finish_front()
    waiting = study.waiting()
    epochs = sum(study.space.budget.epochs - trial.epoch for trial in waiting)
    what = f"trains {counted(len(waiting), 'trial')} to the end, at most {counted(epochs, 'epoch')}"
    print(f"--finish   {what if waiting else 'no trial waits on the first front of its rung'}", flush=True)


def _suspend(study: Study, uploader: MlflowUploader, message: str) -> None:
    """Closes a search that may be resumed."""
    study.save_hours()
    missing = uploader.finish("KILLED", INTERRUPTED_MLFLOW_S)
    print("\n" + "\n".join(filter(None, [missing, message])), flush=True)


def _run_on_cluster(study: Study, options: RunOptions, uploader: MlflowUploader) -> None:
    """Starts or joins Ray and runs trials until the study suggests no more. Raises CommandError."""
    from search.display.live import LiveView
    from search.execution import cluster as ray_cluster
    from search.execution import head_monitor

    tuner_import = threading.Thread(target=importlib.import_module, args=("search.execution.tuner",))
    tuner_import.start()  # takes a second, in which Ray's processes start
    cluster = ray_cluster.start(options.address, options.insecure, options.imports)
    settings = study.space.settings
    slots = cluster.concurrency(settings.resources, settings.concurrency)
    print(_slots_line(slots, cluster), flush=True)
    if settings.fuse != 1:
        print(batching.description(study.space), flush=True)
    lock.update(study.folder, slots=slots, hours_before=study.hours_before)
    with head_monitor.monitored(ray_cluster.head(), options.resume_command), LiveView(study, slots) as view:
        callbacks = _Callbacks(study, uploader, view)
        if options.address is None:
            callbacks.run_trials(slots, options.imports)
            return
        from search.execution.node_checks import node_registry

        is_shared = settings.checkpoints is None
        with node_registry(study.folder, study.space.example.data_dir, callbacks.warn, is_shared=is_shared) as nodes:
            nodes.check(cluster)
            callbacks.run_trials(slots, options.imports, nodes)


class _Callbacks:
    """A running search: keeps the live view, MLflow, requests of other commands and the lock file up to date."""

    def __init__(self, study: Study, uploader: MlflowUploader, view: LiveView) -> None:
        from search.storage.requests import RequestHandler

        self.study = study
        self.uploader = uploader
        self.view = view
        self.requests = RequestHandler(study, view.print_line, self.on_change)
        self._shared_batches: dict[int, tuple[int, int, int]] = {}

    def run_trials(self, count: int, imports: tuple[str, ...], nodes: NodeRegistry | None = None) -> None:
        """Runs trials in `count` slots, which follow the cluster's nodes."""
        from search.execution import tuner
        from search.execution.cluster import Slots
        from search.execution.worker_start import WorkerStart

        settings, unfit = self.study.space.settings, set() if nodes is None else nodes.unfit
        slots = Slots(settings.resources, settings.concurrency, count, self.on_slots, unfit)
        size = batching.max_batch_size(self.study.space)
        start = WorkerStart(self.view.print_line)
        tuner.run_trials(self.study, slots, self.on_change, imports, self.on_step, size, nodes, start)

    def on_change(self, number: int) -> None:
        """Shows a trial that started, reported or ended."""
        self.uploader.mark_changed()
        self.view.update(number)

    def on_step(self) -> None:
        """Does what is due between two steps of Tune's loop. Raises Interrupted on a request to stop the search."""
        self.requests.poll()
        if (message := self.uploader.tick()) is not None:
            self.view.print_line(message)
        self._share_batches()
        self.view.tick()

    def _share_batches(self) -> None:
        """Writes the progress of running trials within an epoch into the lock file, which `search.status` reads."""
        batches = {number: trial.batch for number, trial in self.study.scheduler.running.items() if trial.batch}
        if batches != self._shared_batches:
            self._shared_batches = batches
            lock.update(self.study.folder, batches=batches)

    def on_slots(self, count: int, cluster: Cluster) -> None:
        """Shows the number of slots after nodes joined or left."""
        self.view.print_line(_slots_line(count, cluster))
        self.view.slots = count
        lock.update(self.study.folder, slots=count)

    def warn(self, text: str) -> None:
        """Shows a warning."""
        self.view.print_line(f"warning: {text}")


def _slots_line(count: int, cluster: Cluster) -> str:
    return f"{counted(count, 'trial')} at a time on {cluster.cpus:g} CPU and {cluster.gpus:g} GPU"


def _finish(study: Study, uploader: MlflowUploader, uri: str, finish_command: str) -> int:
    """Writes the results and prints the summary. Raises CommandError if no trial succeeded."""
    from search.display import summary

    study.save_hours()
    study.finish()
    study.download_front_checkpoints()
    result = study.result().interrupted()
    write_results(result, study.folder)
    summary.print_summary(study, uri, uploader.finish("FINISHED", MLFLOW_S), finish_command)
    if study.repeated_failure() is not None:
        raise CommandError(cli.NOTHING_SUCCEEDED, summary.repeated_failures(study))
    if not result.front():
        raise CommandError(cli.NOTHING_SUCCEEDED, summary.no_success(result))
    return cli.OK


def write_results(result: StudyResult, folder: Path) -> list[Path]:
    """Writes the front, the table of trials, the figure and the report into the study's folder; returns the paths."""
    from results.analysis.front import write_front_csv
    from results.figures import write_front_png
    from results.report import NAME, write_report

    front, table, figure, report = (folder / name for name in ("front.csv", "trials.csv", "front.png", NAME))
    write_front_csv(result, front)
    result.write_trials_csv(table)
    write_front_png(result, figure)
    write_report(result, report, shlex.quote(str(folder)))
    return [front, table, figure, report]


def run_study(
    space: str | os.PathLike[str] | Mapping[str, Any] | Space,
    out: str | os.PathLike[str] = "runs",
    *,
    address: str | None = None,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    finish: bool = False,
) -> StudyResult:
    """Runs or resumes a search and returns its results; a finished one is only read.

    `space` is a space file, its content as a mapping, or a Space; `overrides` are `key=value` texts as for `--set`;
    `imports` are packages that register models or data sets. With `finish`, no trial starts, but those that wait on the
    first fronts of an existing study are trained to the end, whatever its budget. Raises ConfigError for the user's
    input and config.cli.CommandError if no trial succeeds or the environment fails; Ctrl-C raises KeyboardInterrupt,
    and the same call resumes.
    """
    import results
    from config.document import Document
    from config.strict_yaml import override

    cli.import_packages(imports)
    if isinstance(space, Mapping):
        space = reader.read(override(Document("space", dict(space)), overrides))
    elif not isinstance(space, Space):
        space = reader.load(os.fspath(space), list(overrides))
    try:
        with interrupts.signals():
            call = "the same call"
            options = RunOptions(Path(out), address, call, tuple(imports), finish=finish)
            run_in_folder(space, replace(options, finish_command=f"{call} with finish=True"))
    except interrupts.Interrupted:
        interrupts.cancel_forced_exit()
        raise KeyboardInterrupt from None
    return results.load(Path(out) / space.study)
