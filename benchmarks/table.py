"""Packing of recorded trainings into a table for `search.simulation.recorded_curves`."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.health import HEALTH, Observed, failure_of, short
from benchmarks.report import machine
from config.errors import ConfigError
from search.simulation.recorded_curves import CURVES_FILE, METADATA_FILE, SPACE_FILE
from search.space.space import Space

Training = dict[str, Any]
Failure = tuple[str, int]


def feasible_grid(space: Space) -> list[dict[str, Any]]:
    """Returns the values of every feasible config, in the file's order. Raises ConfigError for a continuous key."""
    return [values for values in space.grid() if space.is_feasible(values)]


def stem(task: tuple[int, int]) -> str:
    """Returns the name, without its ending, of the file of a config's number and a seed's position."""
    return f"c{task[0]:04}-s{task[1]}"


def read(folder: Path, tasks: Sequence[tuple[int, int]]) -> list[Training]:
    """Returns the recorded trainings by config and seed. Raises ConfigError with the number of missing ones."""
    paths = [folder / f"{stem(task)}.json.gz" for task in sorted(tasks)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ConfigError(f"{folder}: {len(missing)} of {len(paths)} trainings are missing, {missing[0]} the first")
    return [json.loads(gzip.decompress(path.read_bytes())) for path in paths]


def write(space: Space, trainings: Sequence[Training], seeds: int, out: Path) -> None:
    """Writes a complete recording as a table: space file, curves, health observations and metadata."""
    configs = feasible_grid(space)
    out.mkdir(parents=True, exist_ok=True)
    observed = [_observed(training) for training in trainings]
    failures = [failure_of(net) for net in observed]
    names = _names(trainings, failures)
    arrays: dict[str, Any] = _arrays(trainings, failures, names, (len(configs), seeds, space.budget.epochs))
    np.savez_compressed(out / CURVES_FILE, **arrays)
    lines = [json.dumps(net, separators=(",", ":")) for net in observed]
    (out / HEALTH).write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    if not (out / SPACE_FILE).exists():
        (out / SPACE_FILE).write_text(space.yaml())
    base_seed = space.train_config(configs[0]).seed
    metadata = {
        "table": space.study,
        "recorded": datetime.now(UTC).date().isoformat(),
        "cpu_hours": round(sum(epoch["cpu_s"] for t in trainings for epoch in t["epochs"]) / 3600, 3),
        "machine": machine(),
        "epochs": space.budget.epochs,
        "seeds": [base_seed + seed for seed in range(seeds)],
        "found": dict(Counter(failure[0] for failure in failures if failure)),
        "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (CURVES_FILE, HEALTH)},
        **names,
        "configs": configs,
    }
    (out / METADATA_FILE).write_text(_text(metadata))


def _names(trainings: Sequence[Training], failures: Sequence[Failure | None]) -> dict[str, Any]:
    """Returns the names along the last axes of the arrays, and the failure classes."""
    first = next(t for t in trainings if t["epochs"])["epochs"][0]
    read_outs = ["read_step", *(name for name in first["read_outs"][0] if name != "read_step")]
    classes = sorted({failure[0] for failure in failures if failure})
    return {"metrics": list(first["metrics"]), "read_outs": read_outs, "failures": [None, *classes]}


def _arrays(
    trainings: Sequence[Training],
    failures: Sequence[Failure | None],
    names: Mapping[str, Any],
    shape: tuple[int, int, int],
) -> dict[str, Any]:
    """Returns the arrays `[config, seed, epoch, ...]`, padded with NaN."""
    steps = max(len(t["epochs"][0]["read_outs"]) for t in trainings if t["epochs"])
    metrics = np.full((*shape, len(names["metrics"])), np.nan, np.float32)
    read_outs = np.full((*shape, steps, len(names["read_outs"])), np.nan, np.float32)
    cpu_s = np.full(shape, np.nan, np.float32)
    done, failure = np.zeros(shape[:2], np.int16), np.zeros(shape[:2], np.int8)
    recorded = np.zeros(shape[0], np.int8)
    failed_after = np.full(shape[:2], np.nan, np.float32)
    for training, found in zip(trainings, failures, strict=True):
        at = training["config"], training["seed"]
        done[at] = len(training["epochs"])
        recorded[at[0]] += 1
        for i, epoch in enumerate(training["epochs"]):
            metrics[at][i] = [epoch["metrics"][name] for name in names["metrics"]]
            cpu_s[at][i] = epoch["cpu_s"]
            for j, row in enumerate(epoch["read_outs"]):
                read_outs[at][i, j] = [row[name] for name in names["read_outs"]]
        if found is not None:
            failure[at], failed_after[at] = names["failures"].index(found[0]), found[1] / training["batches"]
    return {
        "metrics": metrics,
        "read_outs": read_outs,
        "cpu_s": cpu_s,
        "done": done,
        "failure": failure,
        "failed_after": failed_after,
        "recorded": recorded,
    }


def _observed(training: Training) -> Observed:
    """Returns the observations for the health rules: checked batches, the rates of each evaluation, and the end."""
    last = training["epochs"][-1]["read_outs"][-1] if training["epochs"] else {}
    return {
        "config": training["config"],
        "seed": training["seed"],
        "accuracy": last.get("accuracy"),
        "chance": last.get("chance"),
        "batches": training["batches"],
        "diverged": training["diverged"],
        "looks": [
            {
                "batch": check["batch"],
                "neurons": {name: [short(x) for x in values] for name, values in check["neurons"].items()},
                "gradients": {name: short(norm) for name, norm in check["gradients"].items()},
            }
            for check in training["looks"]
        ],
        "rates": [{name: short(rate) for name, rate in epoch["rates"].items()} for epoch in training["epochs"]],
        "routes": training["routes"],
    }


def _text(metadata: Mapping[str, Any]) -> str:
    """Returns JSON with one line per key, and one per config."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in metadata.items() if key != "configs"]
    configs = ",\n".join(f"    {json.dumps(values)}" for values in metadata["configs"])
    return "{\n" + ",\n".join(lines) + ',\n  "configs": [\n' + configs + "\n  ]\n}\n"
