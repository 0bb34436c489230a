"""MLflow as a mirror of the study: one parent run, a child run a trial; what is there already is not written again.

Everything follows from the study, and MLflow itself is asked what it has. So the study's database is all that has to
survive, and a mirror that was cut off anywhere is completed by writing the study to it once more.
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

from results.load import MLFLOW_SETTINGS
from results.study import StudyResult, TrialResult
from results.uris import sqlite
from search.tracking import mlflow_views
from trainers import mlflow_store
from trainers.config import dump_yaml

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from mlflow.tracking import MlflowClient

MAX_PARAMS = 100
"""MLflow takes at most this many parameters in one call."""

MAX_METRICS = 1000
"""MLflow takes at most this many metrics in one call."""

MAX_TAG = 8000
"""Characters that a tag holds in MLflow."""

ALWAYS = ("model", "dataset", "node_type", "attn_layer", "step", "read_step", "depths", "embed_dim", "num_heads", "lr")
"""Parameters of every trial, searched or not, so that charts over several studies have their axes."""

NO_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Instead of MLflow's own seven retries over four minutes, each waiting for two minutes."""

ENDED = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
FILES = ("front.csv", "front.png", "report.html")
"""What the parent run holds of a search that ended, beside `study.json` and `space.yml`."""

End = Literal["FINISHED", "KILLED"]
"""How the parent run ends: the search is over, or was interrupted and may go on."""


def resolve_store(tracking_uri: str | None, folder: Path) -> tuple[str, Path | None]:
    """Returns the store of the study in `folder`, and where its artifacts go: None where the store says it.

    By default that is an SQLite file beside the studies, by absolute path.
    """
    if tracking_uri is not None:
        return tracking_uri, None
    out = folder.absolute().parent
    return sqlite(out / "mlflow.db"), out / "mlartifacts" / folder.name


def connect(uri: str) -> MlflowClient:
    """Returns a client whose calls give up soon, unless the user has set MLflow's variables; then it is tried again."""
    for name, value in {**MLFLOW_SETTINGS, **NO_PATIENCE}.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for logger in ("alembic", "mlflow", "mlflow.store.db.utils"):  # set when imported; they print what they raise, too
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    mlflow_store.make(uri)
    return MlflowClient(tracking_uri=uri)


def store_errors() -> tuple[type[Exception], ...]:
    """Returns what a store raises that is away, full or damaged, or whose driver is not installed."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError


def is_finished(study: StudyResult) -> bool:
    """Returns whether all trials have ended: none runs or waits."""
    return all(trial.state in ENDED for trial in study.trials)


@dataclass
class MlflowMirror:
    """An open MLflow experiment, and what of the study is in it.

    `runs` are the trials of which something was written since it was opened, `num_epochs` their epochs; `check` is
    called before each trial and may raise to end the writing.
    """

    client: MlflowClient
    experiment: str
    study_id: str
    check: Callable[[], None] = lambda: None
    parent: str = ""
    num_epochs: int = 0
    runs: set[int] = field(default_factory=set)
    _children: dict[int, str] = field(default_factory=dict)
    _described: set[int] = field(default_factory=set)
    _written: dict[int, int] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _states: dict[int, str] = field(default_factory=dict)
    _front: set[int] = field(default_factory=set)
    _written_note: str = ""
    _machine: SystemMetricsMonitor | None = None

    @classmethod
    def open(
        cls, uri: str, study: StudyResult, artifacts: Path | None, check: Callable[[], None] = lambda: None
    ) -> MlflowMirror:
        """Finds or makes the experiment and the parent run, and finds what has been written before."""
        client = connect(uri)
        found = client.get_experiment_by_name(study.name)
        location = None if artifacts is None else artifacts.absolute().as_uri()
        experiment = found.experiment_id if found else client.create_experiment(study.name, artifact_location=location)
        mirror = cls(client, experiment, str(study.attrs.get("id", study.name)), check)
        mirror._find(study.name)
        return mirror

    def watch_machine(self) -> None:
        """Has MLflow note on the parent run how busy this machine is, every ten seconds and until it is closed."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._machine = SystemMetricsMonitor(self.parent, tracking_uri=self.client.tracking_uri, resume_logging=True)
        self._machine.start()

    def write(self, study: StudyResult, is_last: bool = False) -> None:
        """Writes what is missing of the study as it stands."""
        self._write_note(study)
        for trial in study.trials:
            if trial.number not in self._ended:
                self.check()
                self._write_trial(trial, is_last)

    def finish(self, study: StudyResult, folder: Path, end: End) -> None:
        """Writes what is missing, the front, and the files in the study's folder."""
        self.close()
        self.write(study, is_last=True)
        self._tag_front({point.trial for point in study.front()})
        self.client.set_tag(self.parent, mlflow_views.NOTE, mlflow_views.note(study)[:MAX_TAG])
        if study.trials and is_finished(study):
            self._write_shared(study)
        for name in FILES:
            if (folder / name).exists():
                self.client.log_artifact(self.parent, str(folder / name))
        self.client.set_terminated(self.parent, end)

    def close(self) -> None:
        """Ends what `watch_machine` began."""
        if self._machine is not None:
            self._machine.finish()

    def _write_note(self, study: StudyResult) -> None:
        text = json.dumps({"name": study.name, "attrs": study.attrs}, indent=1)
        if text != self._written_note:
            self.client.log_text(self.parent, text, "study.json")
            self.client.log_text(self.parent, dump_yaml(study.attrs["space"]), "space.yml")
            self._written_note = text
            known = self.client.get_experiment(self.experiment).tags
            for key, value in mlflow_views.tags(study).items():
                if key not in known:  # what a user changed stays
                    self.client.set_experiment_tag(self.experiment, key, value)

    def _write_trial(self, trial: TrialResult, is_last: bool) -> None:
        number = trial.number
        new = [epoch for epoch in trial.epochs if int(epoch["epoch"]) > self._written.get(number, 0)]
        if number not in self._children or new or trial.state != self._states.get(number):
            self.runs.add(number)
        run_id = self._children.get(number) or self._create(trial)
        if number not in self._described:
            self._describe(run_id, trial)
        for batch in _batches(_metrics(trial, new)):
            self.client.log_batch(run_id, metrics=batch)
        self._written[number] = trial.num_epochs
        self.num_epochs += len(new)
        if trial.state in ENDED or is_last:
            self.client.log_text(run_id, json.dumps(list(trial.read_outs), indent=1), "steps.json")
            self.client.log_text(run_id, json.dumps(list(trial.layers), indent=1), "layers.json")
        if trial.state in ENDED:
            self._end(run_id, trial)
        elif trial.state != self._states[number]:
            self.client.set_tag(run_id, "status", trial.state)
        self._states[number] = trial.state

    def _create(self, trial: TrialResult) -> str:
        tags = {"kind": "trial", "study_id": self.study_id, "trial": str(trial.number), "status": "running"}
        tags["mlflow.parentRunId"] = self.parent
        started = None if trial.started is None else _millis(trial.started)
        run = self.client.create_run(self.experiment, start_time=started, tags=tags, run_name=run_name(trial))
        run_id: str = run.info.run_id
        self._children[trial.number] = run_id
        self._states[trial.number] = "running"
        return run_id

    def _describe(self, run_id: str, trial: TrialResult) -> None:
        """Writes what is known of a trial from its start."""
        always = {key: trial.config[key] for key in ALWAYS if key in trial.config}
        self._log_params(run_id, {**always, **trial.params})
        self.client.log_inputs(run_id, [_data_set(trial.config)])
        self.client.log_text(run_id, dump_yaml(trial.config), "train.yml")
        self._described.add(trial.number)

    def _log_params(self, run_id: str, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run_id, params=params[start : start + MAX_PARAMS])

    def _end(self, run_id: str, trial: TrialResult) -> None:
        from mlflow.entities import RunTag

        tags = {"status": trial.state, "failure_class": trial.failure_class, "note": trial.note}
        tags["failure_reason"] = trial.failure_reason and trial.failure_reason[:MAX_TAG]
        self.client.log_batch(run_id, tags=[RunTag(key, text) for key, text in tags.items() if text is not None])
        ended = _millis(trial.times[-1]) if trial.times else None
        self.client.set_terminated(run_id, ENDED[trial.state], ended)
        self._ended.add(trial.number)

    def _write_shared(self, study: StudyResult) -> None:
        """Writes the parameters that do not vary to the parent, once."""
        if not self.client.get_run(self.parent).data.params:
            first, *others = (trial.config for trial in study.trials)
            same = (key for key in first if all(other.get(key) == first[key] for other in others))
            self._log_params(self.parent, {key: first[key] for key in same if key not in study.searched})

    def _tag_front(self, numbers: set[int]) -> None:
        """Tags the trials of the front, and takes the tag from those that are no longer on it."""
        for number in sorted(self._front - numbers):
            self.client.delete_tag(self._children[number], "front")
        for number in sorted(numbers - self._front):
            self.client.set_tag(self._children[number], "front", "true")
        self._front = numbers

    def _find(self, name: str) -> None:
        """Finds the study's runs, by its identity: another study of this name has runs of its own."""
        found: dict[int | None, list[Run]] = {}
        for run in self._runs():
            number = run.data.tags.get("trial")
            found.setdefault(None if number is None else int(number), []).append(run)
        if None in found:
            self.parent = self._only(found.pop(None)).info.run_id
            self.client.update_run(self.parent, status="RUNNING")
        else:
            tags = {"kind": "study", "study_id": self.study_id}
            self.parent = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        for number, runs in found.items():
            assert number is not None
            self._take_up(number, self._only(runs))

    def _take_up(self, number: int, run: Run) -> None:
        self._children[number] = run_id = run.info.run_id
        if run.data.tags.get("mlflow.parentRunId") != self.parent:
            self.client.set_tag(run_id, "mlflow.parentRunId", self.parent)
        self._states[number] = run.data.tags["status"]
        if "front" in run.data.tags:
            self._front.add(number)
        if run.info.status in ENDED.values():
            self._ended.add(number)
        elif "loss" in run.data.metrics:
            self._written[number] = max(metric.step for metric in self.client.get_metric_history(run_id, "loss"))

    def _only(self, runs: list[Run]) -> Run:
        """Returns one run of those for one thing, and deletes the others.

        There are several when a server made a run after its client had given up waiting and asked again.
        """
        first, *others = sorted(runs, key=lambda run: (-len(run.data.metrics), run.info.run_id))
        for run in others:
            self.client.delete_run(run.info.run_id)
        return first

    def _runs(self) -> Iterator[Run]:
        query, token = f"tags.study_id = '{self.study_id}'", None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _metrics(trial: TrialResult, epochs: list[dict[str, float]]) -> Iterator[Metric]:
    """Yields epochs as MLflow's metrics, at the times that the study noted: written twice, they are still the same."""
    from mlflow.entities import Metric

    times = dict(zip((int(epoch["epoch"]) for epoch in trial.epochs), trial.times, strict=False))
    for epoch in epochs:
        number = int(epoch["epoch"])
        at = _millis(times.get(number, time.time()))
        yield from (Metric(key, value, at, number) for key, value in epoch.items() if key != "epoch")


def _batches(metrics: Iterator[Metric]) -> Iterator[list[Metric]]:
    found = list(metrics)
    for start in range(0, len(found), MAX_METRICS):
        yield found[start : start + MAX_METRICS]


def _millis(at: float) -> int:
    return round(1000 * at)


def _data_set(config: dict[str, Any]) -> DatasetInput:
    """Returns the data set of a trial as an input of its run; the digest is that of its name and its validation split.

    The images themselves are not read: that would take minutes, for a name that says as much.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = {key: config.get(key) for key in ("dataset", "num_classes", "img_size", "val_fraction", "split_seed")}
    text = json.dumps(facts, sort_keys=True)
    source = json.dumps({"data_dir": config.get("data_dir")})
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    found = Dataset(name=config["dataset"], digest=digest, source_type="local", source=source, profile=text)
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])


def run_name(trial: TrialResult) -> str:
    """Returns a name that people can tell apart in a table: `t0031 SSA d4 w256 T2`."""
    config: dict[str, Any] = trial.config
    parts = [config["attn_layer"], f"d{config['depths']}", f"w{config['embed_dim']}", f"T{config['step']}"]
    return " ".join([trial.key, *map(str, parts)]).replace("[", "").replace("]", "").replace(", ", "-")
