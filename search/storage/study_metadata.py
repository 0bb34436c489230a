"""User attributes of a study: their stored names, its metadata, and the changes that a resumed search may make."""

from __future__ import annotations

import json
import platform
import uuid
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import optuna

from config.errors import ConfigError
from search.space.space import Space

ID, SPACE, HOURS = "id", "space", "hours"
CONFIRMED, CONFIRMATION, TESTED = "confirmed", "confirmation", "tested"
INITIAL_CONFIGS, PEAK_PARALLEL = "start_with", "together"
WAITING = "waiting"
"""Trials that were paused on the first fronts of their rungs when the search ended."""
FINISHED_BUDGET = "ended"
"""The budget with which the search ended by itself, as `search_end` returns it."""
ALGORITHM, CURRENT_ALGORITHM = "algorithm", 2
"""Version of the search's algorithm with which a study began; without the attribute it is the first.

Studies of 1 chose among paused trials by a forecast of their curves. 2 is a model of the rungs, promotion by rungs, and
full trainings of the first fronts.
"""

MACHINE_KEYS = frozenset({"data_dir", "workers", "threads", "device", "log_interval", "output"})
"""Keys of a train file that depend on the machine and may change when a search resumes."""

CHANGEABLE = {"budget.trials", "budget.epochs_total", "budget.hours", "concurrency", "resources", "fuse", "storage"}
CHANGEABLE |= {"tracking_uri", *(f"fixed.{key}" for key in MACHINE_KEYS)}
"""Keys of a space file that may change when a search resumes; `seeds` may grow."""


def update_metadata(study: optuna.Study, space: Space, folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Stores what is new about the study in a folder and returns all its attributes.

    `state` is that of its new scheduler. Raises ConfigError if the space differs from the stored one.
    """
    raw = json.loads(json.dumps(space.raw))
    attrs, base = study.user_attrs, _shared_config(space)
    changed = list(_differences(attrs.get(SPACE, raw), raw))
    if changed := changed or [f"{c} in base {raw['base']}" for c in _differences(attrs.get("base", base), base)]:
        raise ConfigError(
            f"{folder} holds a study of another space; these differ: {', '.join(changed)}. "
            f"Give the new one another name (--name), or restore the old values"
        )
    new: dict[str, Any] = {ID: attrs.get(ID) or uuid.uuid4().hex}
    new[ALGORITHM] = attrs.get(ALGORITHM, 1 if study.get_trials(deepcopy=False) else CURRENT_ALGORITHM)
    new[INITIAL_CONFIGS] = attrs.get(INITIAL_CONFIGS, state[INITIAL_CONFIGS])
    if attrs.get(SPACE, {}).get("budget") != raw["budget"]:
        new[PEAK_PARALLEL] = 0  # a different budget may be for other machines
    new |= {
        SPACE: raw,
        "objectives": dict(space.objectives),
        "base": base,
        "searched": space.searched_keys(),
        "epochs": space.budget.epochs,
        "constraints": space.constraint_bounds(),
        "seed": space.settings.seed,
        "versions": _versions(),
    }
    for key, value in new.items():
        if attrs.get(key) != value:
            study.set_user_attr(key, value)
    _name_objectives(study, list(space.objectives))
    return {**attrs, **new}


def _name_objectives(study: optuna.Study, names: list[str]) -> None:
    """Stores the names of the objectives, which optuna-dashboard shows."""
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(names)


def search_end(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a space file that let a search end: its budget, and the seeds of a config if several."""
    return {**raw["budget"], **({"seeds": raw["seeds"]} if raw.get("seeds", 1) > 1 else {})}


def machine_values(space: Space) -> dict[str, Any]:
    """Returns the values that the current machine sets for all trials, including those started on another one."""
    keys = MACHINE_KEYS.difference(space.searched_keys())
    return {key: value for key, value in space.base.items() if key in keys}


def task_config(config: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Returns a trial's train file for a worker: with the current machine's values, and whole paths."""
    found = {**config, **machine_values(space)}
    path = found.get("initial_checkpoint")
    return {**found, "initial_checkpoint": str(Path(path).absolute())} if path else found


def _shared_config(space: Space) -> dict[str, Any]:
    """Returns the config that all trials share, without the keys of the machine, as plain data."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(space.base)))
    return {key: value for key, value in plain.items() if key not in MACHINE_KEYS}


def _versions() -> dict[str, str]:
    """Returns the versions of all packages that affect a result."""
    found = {name: metadata.version(name) for name in ("torch", "spikingjelly", "timm", "ray", "optuna", "mlflow")}
    return {"python": platform.python_version(), **found}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Yields the differences of two mappings, and of the mappings in them, except changeable keys."""
    for key in sorted(before.keys() | after.keys()):
        old, new, name = before.get(key), after.get(key), f"{parent}{key}"
        if name in CHANGEABLE or old == new or (name == "seeds" and (new or 1) >= (old or 1)):
            continue
        if not parent and isinstance(old, dict | None) and isinstance(new, dict | None):
            yield from _differences(old or {}, new or {}, f"{key}.")
        else:
            yield f"{name} ({old!r} -> {new!r})"
