"""MLflow as a mirror of the study: one parent run, a child run a trial, written from a thread of its own.

What is written follows from the study alone, so writing it again adds only what is missing: a resumed search
continues the same runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.study import StudyResult, TrialResult
from trainers.config import dump_yaml

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run
    from mlflow.tracking import MlflowClient

MAX_PARAMS = 100
"""MLflow takes at most this many parameters in one call."""

ALWAYS = ("model", "dataset", "node_type", "attn_layer", "step", "read_step", "depths", "embed_dim", "num_heads", "lr")
"""Parameters of every trial, searched or not, so that charts over several studies have their axes."""

ENDED = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


def default_uri(out: Path) -> str:
    """Returns the SQLite store beside the studies, by absolute path."""
    return f"sqlite:///{(out / 'mlflow.db').absolute()}"


class Tracker:
    """Mirrors a study into MLflow without holding it up. A store that cannot be written is said once, at the end."""

    def __init__(self, uri: str, study: StudyResult, artifacts: Path | None) -> None:
        self.uri = uri
        self.problem: str | None = None
        self._queue: queue.Queue[StudyResult | TrialResult | Path | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, args=(study.name, artifacts), daemon=True, name="mlflow")
        self._queue.put(study)
        self._thread.start()

    def mirror(self, trial: TrialResult) -> None:
        """Queues a trial as it stands."""
        self._queue.put(trial)

    def finish(self, study: StudyResult, folder: Path, timeout_s: float) -> None:
        """Queues the whole study and the files in its folder, and waits until all is written or time is up."""
        self._queue.put(study)
        self._queue.put(folder)
        self.close(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Lets the thread write what is queued, for at most so long."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.problem = self.problem or f"not everything was written within {timeout_s:.0f} s"

    def _work(self, name: str, artifacts: Path | None) -> None:
        try:
            mirror = _Mirror.open(self.uri, name, artifacts)
            while (item := self._queue.get()) is not None:
                mirror.write(item)
        except Exception as error:  # any failure of the store must leave the search alone
            self.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass
class _Mirror:
    """An open MLflow experiment, and what has been written to it."""

    client: MlflowClient
    experiment: str
    parent: str
    children: dict[int, str] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    front: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, uri: str, name: str, artifacts: Path | None) -> _Mirror:
        """Finds or makes the experiment and the parent run, and finds what an earlier driver wrote."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow.tracking import MlflowClient

        for logger in ("alembic", "mlflow", "mlflow.store.db.utils"):  # mlflow sets levels of its own when imported
            logging.getLogger(logger).setLevel(logging.WARNING)

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        location = None if artifacts is None else artifacts.absolute().as_uri()
        experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=location)
        parents = client.search_runs([experiment], "tags.kind = 'study'", max_results=1)
        parent = parents[0] if parents else client.create_run(experiment, tags={"kind": "study"}, run_name=name)
        if parents:
            client.set_terminated(parent.info.run_id, "RUNNING")
        mirror = cls(client, experiment, parent.info.run_id)
        if parents:
            mirror._find_children()
        return mirror

    def write(self, item: StudyResult | TrialResult | Path) -> None:
        if isinstance(item, TrialResult):
            self._write_trial(item)
        elif isinstance(item, StudyResult):
            self._write_study(item)
        else:
            self._write_files(item)

    def _write_study(self, study: StudyResult) -> None:
        text = json.dumps({"name": study.name, "attrs": study.attrs}, indent=1)
        self.client.log_text(self.parent, text, "study.json")
        self.client.log_text(self.parent, dump_yaml(study.attrs["space"]), "space.yml")
        for trial in study.trials:
            self._write_trial(trial)
        self._tag_front({point.trial for point in study.front()})
        if study.trials and not study.select("running"):
            self._write_shared(study)

    def _write_shared(self, study: StudyResult) -> None:
        """Writes the parameters that do not vary to the parent, once."""
        if not self.client.get_run(self.parent).data.params:
            first, *others = (trial.config for trial in study.trials)
            same = (key for key in first if all(other.get(key) == first[key] for other in others))
            self._log_params(self.parent, {key: first[key] for key in same if key not in study.searched})

    def _tag_front(self, numbers: set[int]) -> None:
        """Tags the trials of the front, and takes the tag from those that are no longer on it."""
        for number in sorted(self.front - numbers):
            self.client.delete_tag(self.children[number], "front")
        for number in sorted((numbers - self.front) & self.children.keys()):
            self.client.set_tag(self.children[number], "front", "true")
        self.front = numbers & self.children.keys()

    def _write_files(self, folder: Path) -> None:
        for name in ("front.csv", "front.png", "report.html"):
            if (folder / name).exists():
                self.client.log_artifact(self.parent, str(folder / name))
        self.client.set_terminated(self.parent, "FINISHED")

    def _write_trial(self, trial: TrialResult) -> None:
        if trial.number in self.ended:
            return
        run_id = self.children.get(trial.number) or self._start(trial)
        self._write_epochs(run_id, trial)
        if trial.state not in ("running", "paused"):
            self._end(run_id, trial)

    def _start(self, trial: TrialResult) -> str:
        tags = {"kind": "trial", "trial": str(trial.number), "mlflow.parentRunId": self.parent, "status": "running"}
        run = self.client.create_run(self.experiment, tags=tags, run_name=run_name(trial))
        run_id: str = run.info.run_id
        always = {key: trial.config[key] for key in ALWAYS if key in trial.config}
        self._log_params(run_id, {**always, **trial.params})
        self.client.log_inputs(run_id, [_data_set(trial.config)])
        self.client.log_text(run_id, dump_yaml(trial.config), "train.yml")
        self.children[trial.number] = run_id
        return run_id

    def _log_params(self, run_id: str, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run_id, params=params[start : start + MAX_PARAMS])

    def _write_epochs(self, run_id: str, trial: TrialResult) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for metrics in trial.epochs:
            epoch = int(metrics["epoch"])
            if epoch > self.written.get(trial.number, 0):
                values = [Metric(key, value, now, epoch) for key, value in metrics.items() if key != "epoch"]
                self.client.log_batch(run_id, metrics=values)
                self.written[trial.number] = epoch

    def _end(self, run_id: str, trial: TrialResult) -> None:
        self.client.log_text(run_id, json.dumps(list(trial.read_outs), indent=1), "steps.json")
        self.client.log_text(run_id, json.dumps(list(trial.layers), indent=1), "layers.json")
        self.client.set_tag(run_id, "status", trial.state)
        if trial.failure_class is not None:
            self.client.set_tag(run_id, "failure_class", trial.failure_class)
            self.client.set_tag(run_id, "failure_reason", (trial.failure_reason or "")[:4000])
        if trial.note is not None:
            self.client.set_tag(run_id, "note", trial.note)
        self.client.set_terminated(run_id, ENDED[trial.state])
        self.ended.add(trial.number)

    def _find_children(self) -> None:
        for run in self._child_runs():
            number = int(run.data.tags["trial"])
            self.children[number] = run.info.run_id
            if "accuracy" in run.data.metrics or "loss" in run.data.metrics:
                history = self.client.get_metric_history(run.info.run_id, "loss")
                self.written[number] = max((metric.step for metric in history), default=0)
            if run.info.status in ("FINISHED", "FAILED"):
                self.ended.add(number)
            if "front" in run.data.tags:
                self.front.add(number)

    def _child_runs(self) -> list[Run]:
        query, token, runs = f"tags.`mlflow.parentRunId` = '{self.parent}'", None, []
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            runs += list(page)
            token = page.token
            if not token:
                return runs


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
