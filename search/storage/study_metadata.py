"""What a study records about itself, and which of it may change when a search resumes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from search.space.space import Space

MACHINE_KEYS = frozenset({"data_dir", "workers", "threads", "device", "log_interval", "output"})
"""Keys of a train file that may differ when a search goes on."""


CHANGEABLE = frozenset(
    {
        ("budget", "trials"),
        ("budget", "epochs_total"),
        ("budget", "hours"),
        ("concurrency",),
        ("fuse",),
        ("resources",),
        ("tracking_uri",),
        ("storage",),
        *(("fixed", key) for key in MACHINE_KEYS),
    }
)
"""Keys of a space file that may differ when a search goes on."""


def metadata_of(space: Space, raw: dict[str, Any]) -> dict[str, Any]:
    """Returns what a study notes of itself; `raw` is its space file as plain data."""
    return {
        "space": raw,
        "objectives": dict(space.objectives),
        "base": shared_config(space),
        "searched": space.searched_keys(),
        "epochs": space.budget.epochs,
        "constraints": space.constraint_bounds(),
        "seed": space.settings.seed,
        "versions": versions(),
    }


def shared_config(space: Space) -> dict[str, Any]:
    """Returns what all trials share, as plain data, but for what a machine decides."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(space.base)))
    return {key: value for key, value in plain.items() if key not in MACHINE_KEYS}


def machine_values(space: Space) -> dict[str, Any]:
    """Returns what a machine decides of all trials, also of those that began on another one."""
    keys = MACHINE_KEYS.difference(space.searched_keys())
    return {key: value for key, value in space.base.items() if key in keys}


def versions() -> dict[str, str]:
    """Returns the versions of what a result depends on."""
    found = {name: metadata.version(name) for name in ("torch", "spikingjelly", "timm", "ray", "optuna", "mlflow")}
    return {"python": platform.python_version(), **found}


def incompatible_changes(notes: Mapping[str, Any], space: Space, raw: Mapping[str, Any]) -> list[str]:
    """Returns what may not differ and does: of the space file, plain as `raw`, or of its base, from a study's notes."""
    changed = differences(notes["space"], raw) if "space" in notes else []
    if changed or "base" not in notes:
        return changed
    return [f"{one} in base {raw['base']}" for one in differences(notes["base"], shared_config(space))]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the keys whose values differ, but for those that may change when a search goes on."""
    changed = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if (key,) in CHANGEABLE or old == new:
            continue
        if all(isinstance(value, dict | None) for value in (old, new)):
            old, new = old or {}, new or {}
            inner = (
                k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k) and (key, k) not in CHANGEABLE
            )
            changed += [f"{key}.{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in inner]
        else:
            changed.append(f"{key} ({old!r} -> {new!r})")
    return changed
