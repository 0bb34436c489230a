"""Loading a study from its Optuna database: `study.db` in its folder, or a database server."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from config.lock_file import holder
from results.folder import check_study, study_location, study_name
from results.metrics import ResultsError
from results.study import (
    StudyResult,
    TrialResult,
    TrialStatus,
    build_study,
    known_metrics,
    parse_exits,
    parse_read_outs,
)

if TYPE_CHECKING:
    import optuna

STATES: dict[str, TrialStatus] = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running"}
_EPOCH = "epoch_"


def load_folder(folder: Path) -> StudyResult:
    """Returns the study of a folder. Raises ResultsError if there is none or its database cannot be read.

    Trials that ran when a driver was interrupted or killed are paused: the next start continues them.
    """
    check_study(folder)
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    location = study_location(folder)
    assert location is not None
    try:
        study = _read_database(location, folder)
    except ResultsError as error:
        raise ResultsError(f"{location}: {error}") from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError, KeyError, RuntimeError) as error:
        cause = getattr(error.__cause__, "orig", error.__cause__) or getattr(error, "orig", error)
        reason = str(cause).splitlines()[0]
        raise ResultsError(f"{location}: no readable study ({reason}); restore it, or load it from MLflow") from error
    return study if holder(folder) is not None else study.interrupted()


def study_from_optuna(study: optuna.Study) -> StudyResult:
    """Returns the current state of an open Optuna study."""
    trials = [trial_from_optuna(trial) for trial in study.get_trials(deepcopy=False) if "config" in trial.user_attrs]
    return build_study(study.study_name, study.user_attrs, trials)


def trial_from_optuna(trial: optuna.trial.FrozenTrial) -> TrialResult:
    """Returns one trial; `params` are taken from its train file, which may differ from the values Optuna suggested."""
    attrs = trial.user_attrs
    epochs = sorted((int(key.removeprefix(_EPOCH)), attrs[key]) for key in attrs if key.startswith(_EPOCH))
    failure = attrs.get("failure") or {}
    config = dict(attrs["config"])
    # A key that several options open has their option in its Optuna name: `attn_layer=SSA.tau`.
    searched = (name.rpartition(".")[2] for name in trial.params)
    return TrialResult(
        number=trial.number,
        state=_state(trial, epochs),
        config=config,
        params={key: config[key] for key in searched if key in config},
        epochs=tuple({"epoch": number, **known_metrics(value["metrics"])} for number, value in epochs),
        read_outs=parse_read_outs(epochs[-1][1].get("read_outs") or ()) if epochs else (),
        exits=parse_exits(epochs[-1][1].get("exits") or ()) if epochs else (),
        layers=tuple(attrs.get("layers") or ()),
        failure_class=failure.get("class"),
        failure_reason=failure.get("reason"),
        stop_reason=attrs.get("note"),
        seed_of=attrs.get("seed_of"),
        source=attrs.get("source"),
        run_id=attrs.get("run_id"),
        started=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
        ended=None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
        times=tuple(float(value["time"]) for _, value in epochs if "time" in value),
        pauses=tuple(number for number, value in epochs if value.get("outcome") == "pause"),
    )


def _state(trial: optuna.trial.FrozenTrial, epochs: Sequence[tuple[int, Mapping[str, Any]]]) -> TrialStatus:
    """Returns the trial's state; a running trial that was paused at a rung and not promoted since is paused."""
    state = STATES[trial.state.name]
    if state != "running" or not epochs:
        return state
    last, values = epochs[-1]
    return "paused" if values.get("outcome") == "pause" and last > trial.user_attrs.get("promoted", 0) else state


def _read_database(location: Path | str, folder: Path) -> StudyResult:
    import optuna

    is_file = isinstance(location, Path)
    url, engine = ("sqlite://", {"creator": lambda: _connect(Path(location))}) if is_file else (str(location), {})
    storage = optuna.storages.RDBStorage(url, engine_kwargs=engine, skip_table_creation=True)
    try:
        name = _select_study([study.study_name for study in storage.get_all_studies()], folder)
        return study_from_optuna(optuna.load_study(study_name=name, storage=storage))
    finally:
        storage.engine.dispose()


def _select_study(names: Sequence[str], folder: Path) -> str:
    """Returns the name of the database's only study; if it has several, the one the folder names."""
    if len(names) == 1:
        return names[0]
    name = study_name(folder)
    if name not in names:
        raise ResultsError(f"it holds {len(names)} studies ({', '.join(names)}) and none is named {name}")
    return name


def _connect(path: Path) -> sqlite3.Connection:
    """Returns a read-only connection, so that a live study is not disturbed.

    Write access is needed once: SQLite must roll back the journal that a killed driver left. If neither a writer nor
    write permission exists, the file is opened as immutable, or SQLite would try to create a journal index beside it.
    """
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() and os.access(path, os.W_OK) else "ro"
    if not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode={mode}", uri=True, check_same_thread=False)
