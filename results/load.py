"""Reads a finished or running search: from its folder (`study.db`) or from MLflow. Both give the same."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote, unquote

from results.folder import _known, missing_study, study_location, study_name
from results.keys import stands_for
from results.metrics import BESIDE, METRICS, ResultsError
from results.study import State, StudyResult, TrialResult
from results.uris import redact, sqlite

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

DEFAULT_TRACKING = "runs/mlflow.db"
STATES: dict[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
}
_STATUS: dict[str, State] = {state: state for state in get_args(State)}
_MAX_RUNS = 10_000
MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""What we set of MLflow where the user has not."""


def load(
    folder: str | os.PathLike[str] | None = None,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
) -> StudyResult:
    """Returns the study in `runs/<study>`, or the one that MLflow holds under the experiment's name."""
    if folder is not None:
        if tracking_uri or experiment:
            raise ResultsError("give a study folder, or a tracking URI and an experiment, but not both")
        return _load_folder(Path(folder))
    if tracking_uri is None and experiment is None:
        raise ResultsError("give a study folder such as runs/quickstart, or a tracking URI and an experiment")
    return _load_mlflow(tracking_uri, experiment)


def from_optuna(study: optuna.Study) -> StudyResult:
    """Returns the study as it stands, from an open Optuna study."""
    trials = [trial_from_optuna(trial) for trial in study.get_trials(deepcopy=False) if "config" in trial.user_attrs]
    return _study(study.study_name, study.user_attrs, trials)


def trial_from_optuna(trial: optuna.trial.FrozenTrial) -> TrialResult:
    """Returns one recorded trial; its searched values are those of its train file, not Optuna's own."""
    attrs = trial.user_attrs
    epochs = sorted((int(key[len("epoch_") :]), value) for key, value in attrs.items() if key.startswith("epoch_"))
    failure = attrs.get("failure") or {}
    config = dict(attrs["config"])
    return TrialResult(
        number=trial.number,
        state="paused" if _is_paused(trial) else STATES[trial.state.name],
        config=config,
        params={key: config[key] for key in map(_key, trial.params) if key in config},
        epochs=tuple({"epoch": number, **_measured(value["metrics"])} for number, value in epochs),
        read_outs=_read_outs(epochs[-1][1].get("read_outs") or ()) if epochs else (),
        layers=tuple(attrs.get("layers") or ()),
        failure_class=failure.get("class"),
        failure_reason=failure.get("reason"),
        note=attrs.get("note"),
        run_id=attrs.get("run_id"),
        started=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
        times=tuple(float(value["time"]) for _, value in epochs if "time" in value),
    )


def _is_paused(trial: optuna.trial.FrozenTrial) -> bool:
    """Returns whether a trial waits at a rung for others to catch up."""
    attrs = trial.user_attrs
    last = max((int(key[len("epoch_") :]) for key in attrs if key.startswith("epoch_")), default=0)
    waits = last > attrs.get("promoted", 0) and attrs[f"epoch_{last:04d}"].get("outcome") == "pause"
    return STATES[trial.state.name] == "running" and waits


def active_keys(space: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Returns the searched keys that the config's choices leave active, in the order of the space."""
    found: list[str] = []
    for key, domain in space.items():
        found.append(key)
        branches = domain.get("choice") if isinstance(domain, Mapping) else None
        if isinstance(branches, Mapping):
            opened = (inner or {} for option, inner in branches.items() if stands_for(option, config.get(key)))
            found += active_keys(next(opened, {}), config)
    return found


def _load_folder(folder: Path) -> StudyResult:
    text = missing_study(folder)
    if text is not None:
        raise ResultsError(text)
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    path = study_location(folder)
    assert path is not None
    try:
        url, engine = ("sqlite://", {"creator": lambda: _open_to_read(path)}) if isinstance(path, Path) else (path, {})
        storage = optuna.storages.RDBStorage(url, engine_kwargs=engine, skip_table_creation=True)
        try:
            name = _only_study([study.study_name for study in storage.get_all_studies()], folder)
            return from_optuna(optuna.load_study(study_name=name, storage=storage))
        finally:
            storage.engine.dispose()
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError, KeyError, RuntimeError) as error:
        cause = getattr(error.__cause__, "orig", error.__cause__) or getattr(error, "orig", error)
        reason = str(cause).splitlines()[0]
        raise ResultsError(f"{path}: no readable study ({reason}); restore it, or load it from MLflow") from error


def _only_study(names: list[str], folder: Path) -> str:
    """Returns the name of the one study of a database; of several, that of the folder's."""
    if len(names) == 1:
        return names[0]
    name = study_name(folder)
    if name not in names:
        raise ResultsError(f"it holds {len(names)} studies ({', '.join(names)}) and none is named {name}")
    return name


def _open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, so that a live study is not disturbed.

    What a killed driver left half written has to be rolled back first, which SQLite does for those who may write. Where
    nobody writes and the reader may not, SQLite has to be told so, or it would put its index of a journal there.
    """
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() and os.access(path, os.W_OK) else "ro"
    if not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode={mode}", uri=True, check_same_thread=False)


def _load_mlflow(tracking_uri: str | None, experiment: str | None) -> StudyResult:
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite(Path(DEFAULT_TRACKING).resolve())
    if "://" not in uri:
        raise ResultsError(f"--tracking-uri {uri}: must be a URI, such as sqlite:///runs/mlflow.db or http://HOST:PORT")
    if uri.startswith("sqlite:///") and not Path(unquote(uri[len("sqlite:///") :].split("?")[0])).is_file():
        raise ResultsError(f"{uri}: no such file; give the tracking URI that the search printed")
    with _environment(MLFLOW_SETTINGS):
        return _load_experiment(uri, experiment)


def _load_experiment(uri: str, experiment: str | None) -> StudyResult:
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    shown = redact(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        found = _experiment(client, uri, experiment)
        parents = client.search_runs(
            [found.experiment_id],
            "tags.kind = 'study'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not parents:
            raise ResultsError(f"{shown}: experiment {found.name} holds no run of a search (a run tagged kind=study)")
        return _study_from_runs(client, parents[0])
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
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables that the user has not set, for a while."""
    fresh = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)


def _experiment(client: MlflowClient, uri: str, name: str | None) -> Experiment:
    experiments = {found.name: found for found in client.search_experiments() if found.name != "Default"}
    if name is None and len(experiments) == 1:
        return next(iter(experiments.values()))
    if name not in experiments:
        what = f"no experiment {name}." if name else "name the experiment with --experiment."
        raise ResultsError(f"{redact(uri)}: {what}{_known(name or '', list(experiments))}")
    return experiments[name]


def _study_from_runs(client: MlflowClient, parent: Run) -> StudyResult:
    record = json.loads(_artifacts(client, parent)["study.json"])
    attrs = record["attrs"]
    children = client.search_runs(
        [parent.info.experiment_id],
        f"tags.kind = 'trial' and tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
        order_by=["attributes.start_time ASC"],
        max_results=_MAX_RUNS,
    )
    newest = {int(run.data.tags["trial"]): run for run in children}
    space = attrs.get("space") or {}
    trials = (_trial_from_run(run, client, space.get("space", space)) for run in newest.values())
    return _study(record["name"], attrs, [trial for trial in trials if trial])


def _trial_from_run(run: Run, client: MlflowClient, space: Mapping[str, Any]) -> TrialResult | None:
    """Returns the trial of a run, or None before its train file is logged."""
    import yaml

    tags, files = run.data.tags, _artifacts(client, run)
    if "train.yml" not in files:
        return None
    config = yaml.safe_load(files["train.yml"])
    return TrialResult(
        number=int(tags["trial"]),
        state=_STATUS[tags["status"]],
        config=config,
        params={key: config[key] for key in active_keys(space, config) if key in config},
        epochs=_epochs(client, run),
        read_outs=_read_outs(json.loads(files.get("steps.json", "[]"))),
        layers=tuple(json.loads(files.get("layers.json", "[]"))),
        failure_class=tags.get("failure_class"),
        failure_reason=tags.get("failure_reason"),
        note=tags.get("note"),
        run_id=run.info.run_id,
    )


def _epochs(client: MlflowClient, run: Run) -> tuple[dict[str, float], ...]:
    """Returns the metrics per epoch; of an epoch that was logged twice, after a crash, the later one."""
    epochs: dict[int, dict[str, float]] = {}
    for name in METRICS:
        if name in run.data.metrics:
            for entry in sorted(client.get_metric_history(run.info.run_id, name), key=lambda entry: entry.timestamp):
                epochs.setdefault(entry.step, {})[name] = entry.value
    return tuple({"epoch": step, **epochs[step]} for step in sorted(epochs))


def _artifacts(client: MlflowClient, run: Run) -> dict[str, str]:
    """Returns the text of those artifacts of a run that describe a trial or a study."""
    known = {"study.json", "train.yml", "steps.json", "layers.json"}
    names = [file.path for file in client.list_artifacts(run.info.run_id) if file.path in known]
    with TemporaryDirectory() as folder:
        return {
            name: Path(client.download_artifacts(run.info.run_id, name, folder)).read_text(encoding="utf-8")
            for name in names
        }


def _measured(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(record[name]) for name in METRICS if record.get(name) is not None}


def _read_outs(records: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], ...]:
    return tuple(
        {
            "read_step": int(record["read_step"]),
            **{name: float(record[name]) for name in BESIDE if name in record},
            **_measured(record),
        }
        for record in records
    )


def _study(name: str, attrs: Mapping[str, Any], trials: Iterable[TrialResult]) -> StudyResult:
    missing = [key for key in ("objectives", "searched", "epochs") if key not in attrs]
    if missing:
        raise ResultsError(f"study {name} was not written by `python -m search.run`: it lacks {', '.join(missing)}")
    every = sorted(trials, key=lambda trial: trial.number)
    feasible = tuple(trial for trial in every if trial.failure_class != "infeasible")
    return StudyResult(
        name=name,
        objectives=dict(attrs["objectives"]),
        searched=tuple(attrs["searched"]),
        epochs=int(attrs["epochs"]),
        constraints=dict(attrs.get("constraints") or {}),
        trials=feasible,
        attrs=dict(attrs),
        num_infeasible=len(every) - len(feasible),
    )


def _key(parameter: str) -> str:
    """The searched key behind an Optuna name, which for a key that several options open is `attn_layer=SSA.tau`."""
    return parameter.rpartition(".")[2]
