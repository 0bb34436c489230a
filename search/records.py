"""What is kept of each trial and of the study's own settings."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search.space import Space

if TYPE_CHECKING:
    from search.samplers import Draw

OF_THE_MACHINE = frozenset({"data_dir", "workers", "threads", "device", "log_interval", "output"})
"""Keys of a train file that may differ when a search goes on."""

MAY_CHANGE = frozenset(
    {
        ("budget", "trials"),
        ("budget", "epochs_total"),
        ("budget", "hours"),
        ("concurrency",),
        ("fuse",),
        ("resources",),
        ("tracking_uri",),
        ("storage",),
        *(("fixed", key) for key in OF_THE_MACHINE),
    }
)
"""Keys of a space file that may differ when a search goes on."""

State = Literal["running", "paused", "complete", "stopped", "failed"]

ALIVE = ("running", "paused")
"""States of a trial that has not ended."""


@dataclass(frozen=True)
class Task:
    """One trial to run: its number, its train file, and where its checkpoints are.

    With an address `kept` they are kept there, and the folder is one of its worker's own.
    """

    number: int
    config: dict[str, Any]
    folder: str
    kept: str | None = None


def kept_at(space: Space, folder: Path) -> str | None:
    """Returns the address that stands for a folder inside the study's, where its checkpoints are kept elsewhere."""
    return None if space.settings.checkpoints is None else f"{space.settings.checkpoints}/{folder.as_posix()}"


@dataclass(frozen=True)
class Job:
    """What a worker is to do next: a trial, its searched values, and the epochs that it has been trained already.

    A further seed of a config is a trial of its own, and says of which; `waited` says that the trial was on hold.
    """

    number: int
    values: dict[str, Any]
    epoch: int
    seed_of: int | None = None
    waited: bool = False


@dataclass
class Record:
    """What the policy knows of one trial.

    `epochs` holds the metrics after each epoch, in their order; `at_chance` are the epochs after which it was no better
    than a guess; `read_outs` are those of a full training; `seed_of` is the trial whose config it repeats with another
    seed; `refused` is why it was not trained; `retried` are the classes of failure after which it was tried again.
    """

    number: int
    draw: Draw
    config: dict[str, Any]
    state: State = "running"
    failure: str | None = None
    reason: str | None = None
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    source: str = "sampler"
    at_chance: set[int] = field(default_factory=set)
    read_outs: list[dict[str, float]] = field(default_factory=list)
    seed_of: int | None = None
    refused: str | None = None
    retried: set[str] = field(default_factory=set)

    @property
    def epoch(self) -> int:
        """Returns how many epochs it has been trained."""
        return next(reversed(self.epochs), 0)


def study_notes(space: Space, raw: dict[str, Any]) -> dict[str, Any]:
    """Returns what a study notes of itself; `raw` is its space file as plain data."""
    return {
        "space": raw,
        "objectives": dict(space.objectives),
        "base": shared(space),
        "searched": space.searched(),
        "epochs": space.budget.epochs,
        "constraints": space.bounds(),
        "seed": space.settings.seed,
        "versions": versions(),
    }


def shared(space: Space) -> dict[str, Any]:
    """Returns what all trials share, as plain data, but for what a machine decides."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(space.base)))
    return {key: value for key, value in plain.items() if key not in OF_THE_MACHINE}


def of_the_machine(space: Space) -> dict[str, Any]:
    """Returns what a machine decides of all trials, also of those that began on another one."""
    keys = OF_THE_MACHINE.difference(space.searched())
    return {key: value for key, value in space.base.items() if key in keys}


def versions() -> dict[str, str]:
    """Returns the versions of what a result depends on."""
    found = {name: metadata.version(name) for name in ("torch", "spikingjelly", "timm", "ray", "optuna", "mlflow")}
    return {"python": platform.python_version(), **found}


def changes(notes: Mapping[str, Any], space: Space, raw: Mapping[str, Any]) -> list[str]:
    """Returns what may not differ and does: of the space file, plain as `raw`, or of its base, from a study's notes."""
    changed = differences(notes["space"], raw) if "space" in notes else []
    if changed or "base" not in notes:
        return changed
    return [f"{one} in base {raw['base']}" for one in differences(notes["base"], shared(space))]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the keys whose values differ, but for those that may change when a search goes on."""
    changed = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if (key,) in MAY_CHANGE or old == new:
            continue
        if all(isinstance(value, dict | None) for value in (old, new)):
            old, new = old or {}, new or {}
            inner = (
                k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k) and (key, k) not in MAY_CHANGE
            )
            changed += [f"{key}.{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in inner]
        else:
            changed.append(f"{key} ({old!r} -> {new!r})")
    return changed
