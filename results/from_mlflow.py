"""Loading a study from MLflow: a parent run that describes the study, and a child run for each trial."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import unquote

from config.uris import redact, sqlite
from results.folder import list_known
from results.keys import active_keys
from results.metrics import METRICS, ResultsError
from results.study import StudyResult, TrialResult, TrialStatus, build_study, parse_exits, parse_read_outs

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


DEFAULT_TRACKING = "runs/mlflow.db"
MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""MLflow's environment variables and their values, applied unless the user has set them."""

_ARTIFACTS = {"study.json", "train.yml", "steps.json", "layers.json", "exits.json"}
_MAX_RUNS = 10_000
_STATES: dict[str, TrialStatus] = {state: state for state in get_args(TrialStatus)}


def load_experiment(tracking_uri: str | None, experiment: str | None) -> StudyResult:
    """Returns the study that MLflow holds; raises ResultsError, or ConnectionError if the server does not answer.

    The tracking URI defaults to `MLFLOW_TRACKING_URI`, then to `runs/mlflow.db`; the experiment to the only one.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite(Path(DEFAULT_TRACKING).resolve())
    if "://" not in uri:
        raise ResultsError(f"--tracking-uri {uri}: must be a URI, such as sqlite:///runs/mlflow.db or http://HOST:PORT")
    if uri.startswith("sqlite:///") and not Path(unquote(uri[len("sqlite:///") :].split("?")[0])).is_file():
        raise ResultsError(f"{uri}: no such file; give the tracking URI that the search printed")
    with _default_environment(MLFLOW_SETTINGS):
        return _read_experiment(uri, experiment)


def _read_experiment(uri: str, experiment: str | None) -> StudyResult:
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    shown = redact(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        return _study_from_runs(client, _find_parent(client, shown, experiment))
    except ResultsError:
        raise
    except ImportError as error:
        raise ResultsError(f"{shown}: needs a database driver that is not installed ({error})") from error
    except (MlflowException, SQLAlchemyError, OSError, KeyError, ValueError) as error:
        cause = redact(str(error).splitlines()[0])
        if uri.startswith("http") and isinstance(error, MlflowException) and not isinstance(error, RestException):
            raise ConnectionError(f"{shown}: MLflow does not answer ({cause}); is the server up?") from error
        raise ResultsError(f"{shown}: no readable study ({cause}); mirror it again with search.sync") from error


@contextmanager
def _default_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Inside, sets those environment variables that the user has not set."""
    fresh = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)


def _find_parent(client: MlflowClient, shown: str, name: str | None) -> Run:
    """Returns the study's newest parent run; `shown` is the redacted tracking URI, for messages."""
    experiments = {found.name: found for found in client.search_experiments() if found.name != "Default"}
    if name is None and len(experiments) == 1:
        name = next(iter(experiments))
    if name not in experiments:
        problem = f"no experiment {name}." if name else "name the experiment with --experiment."
        raise ResultsError(f"{shown}: {problem}{list_known(name or '', list(experiments))}")
    newest_first = ["attributes.start_time DESC"]
    parents = client.search_runs(
        [experiments[name].experiment_id], "tags.kind = 'study'", order_by=newest_first, max_results=1
    )
    if not parents:
        raise ResultsError(f"{shown}: experiment {name} holds no run of a search (a run tagged kind=study)")
    return parents[0]


def _study_from_runs(client: MlflowClient, parent: Run) -> StudyResult:
    saved = json.loads(_download_texts(client, parent)["study.json"])
    attrs = saved["attrs"]
    children = client.search_runs(
        [parent.info.experiment_id],
        f"tags.kind = 'trial' and tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
        order_by=["attributes.start_time ASC"],
        max_results=_MAX_RUNS,
    )
    newest = {int(run.data.tags["trial"]): run for run in children}
    space = attrs.get("space") or {}
    trials = (_trial_from_run(run, client, space.get("space", space)) for run in newest.values())
    study = build_study(saved["name"], attrs, [trial for trial in trials if trial])
    return study if parent.info.status == "RUNNING" else study.interrupted()


def _trial_from_run(run: Run, client: MlflowClient, space: Mapping[str, Any]) -> TrialResult | None:
    """Returns the trial of a run, or None if its train file is not logged yet."""
    import yaml

    tags, files = run.data.tags, _download_texts(client, run)
    if "train.yml" not in files:
        return None
    config = yaml.safe_load(files["train.yml"])
    return TrialResult(
        number=int(tags["trial"]),
        state=_STATES[tags["status"]],
        config=config,
        params={key: config[key] for key in active_keys(space, config) if key in config},
        epochs=_metric_history(client, run),
        read_outs=parse_read_outs(json.loads(files.get("steps.json", "[]"))),
        exits=parse_exits(json.loads(files.get("exits.json", "[]"))),
        layers=tuple(json.loads(files.get("layers.json", "[]"))),
        failure_class=tags.get("failure_class"),
        failure_reason=tags.get("failure_reason"),
        stop_reason=tags.get("note"),
        seed_of=int(tags["seed_of"]) if "seed_of" in tags else None,
        source=tags.get("source"),
        run_id=run.info.run_id,
    )


def _metric_history(client: MlflowClient, run: Run) -> tuple[dict[str, float], ...]:
    """Returns the metrics per epoch; for an epoch that was logged twice, after a crash, the later ones."""
    epochs: dict[int, dict[str, float]] = {}
    for name in METRICS:
        if name in run.data.metrics:
            for entry in sorted(client.get_metric_history(run.info.run_id, name), key=lambda entry: entry.timestamp):
                epochs.setdefault(entry.step, {})[name] = entry.value
    return tuple({"epoch": step, **epochs[step]} for step in sorted(epochs))


def _download_texts(client: MlflowClient, run: Run) -> dict[str, str]:
    """Returns the text artifacts of a run that describe a trial or a study, by file name."""
    names = [file.path for file in client.list_artifacts(run.info.run_id) if file.path in _ARTIFACTS]
    with TemporaryDirectory() as folder:
        return {
            name: Path(client.download_artifacts(run.info.run_id, name, folder)).read_text(encoding="utf-8")
            for name in names
        }
