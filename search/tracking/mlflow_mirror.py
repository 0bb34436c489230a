"""MLflow mirror of a study: one parent run, and one child run per trial.

The mirror is derived from the study's database alone and asks MLflow what it holds already. Writing the study once more
therefore completes a mirror that was interrupted at any point.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from config.errors import ConfigError
from config.strict_yaml import dump_yaml
from config.uris import check_tracking, sqlite
from results.from_mlflow import MLFLOW_SETTINGS
from results.study import StudyResult, TrialResult
from search.tracking import mlflow_views
from trainers import mlflow_store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

ENVIRONMENT_URI = "MLFLOW_TRACKING_URI"
"""Environment variable with the tracking URI of studies whose space file has none."""

MAX_METRICS = 1000
"""MLflow takes at most this many metrics in one call."""

MAX_TAG = 8000
"""Characters that an MLflow tag holds."""

COMMON_PARAMS = (
    *("model", "dataset", "node_type", "attn_layer", "step", "read_step", "depths", "embed_dim", "num_heads", "lr"),
)
"""Parameters of every trial, searched or not, so that charts over several studies share axes."""

CLIENT_SETTINGS = {**MLFLOW_SETTINGS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow itself would retry seven times over four minutes, with a timeout of two minutes each."""

RUN_STATUS = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
WAITING = "SCHEDULED"
"""Status of the runs of trials that continue when an interrupted search resumes, or that wait for `--finish`."""

FILES = ("front.csv", "trials.csv", "front.png", "report.html")
"""Files of a finished search in the parent run, beside `study.json` and `space.yml`."""

EndStatus = Literal["FINISHED", "KILLED"]
"""Status of the parent run: the search is over, or was interrupted and can be resumed."""


def resolve_store(tracking_uri: str | None, folder: Path) -> tuple[str, Path | None]:
    """Returns the store of the study in `folder` and its artifact folder; None if the store decides on that.

    Without a tracking URI it is that of the environment, then an SQLite file beside the studies, by absolute path.
    Raises ConfigError if the environment holds no such URI.
    """
    if (uri := tracking_uri or environment_uri()) is not None:
        return uri, None
    out = folder.absolute().parent
    return sqlite(out / "mlflow.db"), out / "mlartifacts" / folder.name


def environment_uri() -> str | None:
    """Returns the URI in MLFLOW_TRACKING_URI, None if it is not set. Raises ConfigError if it is not one."""
    uri = os.environ.get(ENVIRONMENT_URI)
    try:
        return check_tracking(uri) if uri else None
    except ValueError as error:
        raise ConfigError(f"{ENVIRONMENT_URI}: {error}") from None


def connect(uri: str) -> MlflowClient:
    """Returns a client whose calls fail fast, unless the user has set MLflow's variables; failed calls are retried."""
    return mlflow_store.connect(uri, CLIENT_SETTINGS, logging.CRITICAL)


def store_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions of a store that is unreachable, full or damaged, or whose driver is not installed."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError


def is_finished(study: StudyResult) -> bool:
    """Returns whether all trials have ended, or wait for `--finish` on the first front of their rung."""
    waiting = {trial.number for trial in study.waiting()}
    return all(trial.state in RUN_STATUS or trial.number in waiting for trial in study.trials)


@dataclass
class _ChildRun:
    """The run of one trial, and what it holds of it."""

    run_id: str
    status: str = "running"
    num_epochs: int = 0
    is_described: bool = False
    is_ended: bool = False
    is_on_front: bool = False


@dataclass
class MlflowMirror:
    """An open MLflow experiment, and what it holds of the study.

    `runs` are the trials written to since it was opened, `num_epochs` their epochs. `check` is called before each
    trial and may raise to end the writing.
    """

    client: MlflowClient
    experiment: str
    study_id: str
    check: Callable[[], None] = lambda: None
    parent: str = ""
    num_epochs: int = 0
    runs: set[int] = field(default_factory=set)
    _children: dict[int, _ChildRun] = field(default_factory=dict)
    _metadata: str = ""
    _num_complete: int = 0
    _monitor: SystemMetricsMonitor | None = None

    @classmethod
    def open(
        cls, uri: str, study: StudyResult, artifacts: Path | None, check: Callable[[], None] = lambda: None
    ) -> MlflowMirror:
        """Finds or creates the experiment and the parent run, and finds what was written before."""
        client = connect(uri)
        found = client.get_experiment_by_name(study.name)
        location = None if artifacts is None else artifacts.absolute().as_uri()
        experiment = found.experiment_id if found else client.create_experiment(study.name, artifact_location=location)
        mirror = cls(client, experiment, str(study.attrs.get("id", study.name)), check)
        mirror._find_runs(study.name)
        return mirror

    def log_system_metrics(self) -> None:
        """Logs this machine's load to the parent run every ten seconds, until `close`."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(self.parent, tracking_uri=self.client.tracking_uri, resume_logging=True)
        self._monitor.start()

    def write(self, study: StudyResult, is_last: bool = False) -> None:
        """Writes what is missing of the study."""
        self._write_metadata(study)
        for trial in study.trials:
            child = self._children.get(trial.number)
            if child is None or not child.is_ended:
                self.check()
                self._write_trial(trial, is_last)
        if (num_complete := len(study.select("complete"))) != self._num_complete:
            self._tag_front({point.trial for point in study.front()})
            self._num_complete = num_complete

    def finish(self, study: StudyResult, folder: Path, end: EndStatus) -> None:
        """Writes what is missing, the front, and the files in the study's folder."""
        self.close()
        self.write(study, is_last=True)
        self._tag_front({point.trial for point in study.front()})
        self.client.set_tag(self.parent, mlflow_views.DESCRIPTION, mlflow_views.description(study)[:MAX_TAG])
        if study.trials and is_finished(study):
            self._write_shared_params(study)
        for name in FILES:
            if (folder / name).exists():
                self.client.log_artifact(self.parent, str(folder / name))
        for child in (child for child in self._children.values() if not child.is_ended):
            self.client.update_run(child.run_id, status=WAITING)
        self.client.set_terminated(self.parent, end)

    def close(self) -> None:
        """Ends `log_system_metrics`."""
        if self._monitor is not None:
            self._monitor.finish()

    def _write_metadata(self, study: StudyResult) -> None:
        text = json.dumps({"name": study.name, "attrs": study.attrs}, indent=1)
        if text == self._metadata:
            return
        self.client.log_text(self.parent, text, "study.json")
        self.client.log_text(self.parent, dump_yaml(study.attrs["space"]), "space.yml")
        self._metadata = text
        existing = self.client.get_experiment(self.experiment).tags
        for key, value in mlflow_views.tags(study).items():
            before = existing.get(key)
            if before is None or (before != value and mlflow_views.is_ours(before)):  # a user's changes stay
                self.client.set_experiment_tag(self.experiment, key, value)

    def _write_trial(self, trial: TrialResult, is_last: bool) -> None:
        child = self._children.get(trial.number)
        written = 0 if child is None else child.num_epochs
        new = [epoch for epoch in trial.epochs if int(epoch["epoch"]) > written]
        if child is None or new or trial.state != child.status:
            self.runs.add(trial.number)
        child = child or self._create_run(trial)
        if not child.is_described:
            self._describe(child, trial)
        metrics = list(_metrics(trial, new))
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(child.run_id, metrics=metrics[start : start + MAX_METRICS])
        child.num_epochs = trial.num_epochs
        self.num_epochs += len(new)
        if trial.state in RUN_STATUS or is_last:
            self.client.log_text(child.run_id, json.dumps(list(trial.read_outs), indent=1), "steps.json")
            self.client.log_text(child.run_id, json.dumps(list(trial.layers), indent=1), "layers.json")
            if trial.exits:
                self.client.log_text(child.run_id, json.dumps(list(trial.exits), indent=1), "exits.json")
        if trial.state in RUN_STATUS:
            self._end_run(child, trial)
        elif trial.state != child.status:
            self.client.set_tag(child.run_id, "status", trial.state)
        child.status = trial.state

    def _create_run(self, trial: TrialResult) -> _ChildRun:
        tags = {"kind": "trial", "study_id": self.study_id, "trial": str(trial.number), "status": "running"}
        optional = {"source": trial.source, "seed_of": None if trial.seed_of is None else str(trial.seed_of)}
        tags |= {"mlflow.parentRunId": self.parent, **{name: tag for name, tag in optional.items() if tag is not None}}
        started = None if trial.started is None else _millis(trial.started)
        run = self.client.create_run(self.experiment, start_time=started, tags=tags, run_name=run_name(trial))
        self._children[trial.number] = child = _ChildRun(run.info.run_id)
        return child

    def _describe(self, child: _ChildRun, trial: TrialResult) -> None:
        """Writes what is known of a trial from its start."""
        common = {key: trial.config[key] for key in COMMON_PARAMS if key in trial.config}
        mlflow_store.log_params(self.client, child.run_id, {**common, **trial.params})
        self.client.log_inputs(child.run_id, [_dataset_input(trial.config)])
        self.client.log_text(child.run_id, dump_yaml(trial.config), "train.yml")
        child.is_described = True

    def _end_run(self, child: _ChildRun, trial: TrialResult) -> None:
        from mlflow.entities import RunTag

        tags = {"status": trial.state, "failure_class": trial.failure_class, "note": trial.stop_reason}
        tags["failure_reason"] = trial.failure_reason and trial.failure_reason[:MAX_TAG]
        self.client.log_batch(child.run_id, tags=[RunTag(key, text) for key, text in tags.items() if text is not None])
        ended = _millis(trial.times[-1]) if trial.times else None
        self.client.set_terminated(child.run_id, RUN_STATUS[trial.state], ended)
        child.is_ended = True

    def _write_shared_params(self, study: StudyResult) -> None:
        """Writes the parameters that all trials share to the parent run, once."""
        if not self.client.get_run(self.parent).data.params:
            first, *others = (trial.config for trial in study.trials)
            shared = (key for key in first if all(other.get(key) == first[key] for other in others))
            values = {key: first[key] for key in shared if key not in study.searched}
            mlflow_store.log_params(self.client, self.parent, values)

    def _tag_front(self, numbers: set[int]) -> None:
        """Tags the trials on the front, and removes the tag from those that left it."""
        for number, child in sorted(self._children.items()):
            if child.is_on_front and number not in numbers:
                self.client.delete_tag(child.run_id, "front")
            elif number in numbers and not child.is_on_front:
                self.client.set_tag(child.run_id, "front", "true")
            child.is_on_front = number in numbers

    def _find_runs(self, name: str) -> None:
        """Finds the study's runs by its identifier: another study of the same name has separate runs."""
        found: dict[int | None, list[Run]] = {}
        for run in self._search_runs():
            number = run.data.tags.get("trial")
            found.setdefault(None if number is None else int(number), []).append(run)
        if None in found:
            self.parent = self._deduplicated(found.pop(None)).info.run_id
            self.client.update_run(self.parent, status="RUNNING")
        else:
            tags = {"kind": "study", "study_id": self.study_id}
            self.parent = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        for number, runs in found.items():
            assert number is not None
            self._children[number] = self._existing_child(self._deduplicated(runs))

    def _existing_child(self, run: Run) -> _ChildRun:
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get("mlflow.parentRunId") != self.parent:
            self.client.set_tag(run_id, "mlflow.parentRunId", self.parent)
        if run.info.status == WAITING:
            self.client.update_run(run_id, status="RUNNING")
        child = _ChildRun(run_id, tags["status"], is_on_front="front" in tags)
        child.is_ended = run.info.status in RUN_STATUS.values()
        if not child.is_ended and "loss" in run.data.metrics:
            child.num_epochs = max(metric.step for metric in self.client.get_metric_history(run_id, "loss"))
        return child

    def _deduplicated(self, runs: list[Run]) -> Run:
        """Returns one of the runs of one trial, and deletes the others.

        A server may have created a run after its client's timeout, before the client repeated the call.
        """
        first, *others = sorted(runs, key=lambda run: (-len(run.data.metrics), run.info.run_id))
        for run in others:
            self.client.delete_run(run.info.run_id)
        return first

    def _search_runs(self) -> Iterator[Run]:
        query, token = f"tags.study_id = '{self.study_id}'", None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _metrics(trial: TrialResult, epochs: list[dict[str, float]]) -> Iterator[Metric]:
    """Yields epochs as MLflow's metrics, at the study's own times: writing them twice gives equal metrics."""
    from mlflow.entities import Metric

    times = dict(zip((int(epoch["epoch"]) for epoch in trial.epochs), trial.times, strict=False))
    for epoch in epochs:
        number = int(epoch["epoch"])
        time_ms = _millis(times.get(number, time.time()))
        yield from (Metric(key, value, time_ms, number) for key, value in epoch.items() if key != "epoch")


def _millis(seconds: float) -> int:
    return round(1000 * seconds)


def _dataset_input(config: dict[str, Any]) -> DatasetInput:
    """Returns the data set of a trial as an input of its run; the digest covers its name, size and validation split.

    The images themselves are not read, which would take minutes.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    keys = ("dataset", "num_classes", "img_size", "val_fraction", "split_seed", "train_images")
    info = {key: config.get(key) for key in keys}
    text = json.dumps(info, sort_keys=True)
    source = json.dumps({"data_dir": config.get("data_dir")})
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    found = Dataset(name=config["dataset"], digest=digest, source_type="local", source=source, profile=text)
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])


def run_name(trial: TrialResult) -> str:
    """Returns a readable name, unique in the study: `t0031 SSA d4 w256 T2`."""
    config: dict[str, Any] = trial.config
    parts = [config["attn_layer"], f"d{config['depths']}", f"w{config['embed_dim']}", f"T{config['step']}"]
    return " ".join([trial.key, *map(str, parts)]).replace("[", "").replace("]", "").replace(", ", "-")
