"""Packs the trainings of a recording into a table that `search.simulation.recorded_curves` reads."""

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

from benchmarks.health import HEALTH, Seen, failure_of, short
from benchmarks.report import machine
from config.errors import ConfigError
from search.simulation.recorded_curves import DATA, FACTS, SPACE, grid
from search.space.space import Space

Training = dict[str, Any]
Failure = tuple[str, int]


def read(folder: Path, configs: int, seeds: int) -> list[Training]:
    """Returns the recorded trainings, in order. Raises ConfigError that counts the missing ones."""
    paths = [folder / f"c{config:04}-s{seed}.json.gz" for config in range(configs) for seed in range(seeds)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ConfigError(f"{folder}: {len(missing)} of {len(paths)} trainings are missing, {missing[0]} the first")
    return [json.loads(gzip.decompress(path.read_bytes())) for path in paths]


def write(space: Space, trainings: Sequence[Training], seeds: int, out: Path) -> None:
    """Writes a whole recording as a table: the space file, the curves, the health, and the facts about them."""
    configs = grid(space)
    out.mkdir(parents=True, exist_ok=True)
    seen = [_seen(training) for training in trainings]
    failures = [failure_of(one) for one in seen]
    facts = _facts(trainings, failures)
    arrays: dict[str, Any] = _arrays(trainings, failures, facts, (len(configs), seeds, space.budget.epochs))
    np.savez_compressed(out / DATA, **arrays)
    lines = [json.dumps(one, separators=(",", ":")) for one in seen]
    (out / HEALTH).write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    if not (out / SPACE).exists():
        (out / SPACE).write_text(space.yaml())
    base_seed = space.train_config(configs[0]).seed
    everything = {
        "table": space.study,
        "recorded": datetime.now(UTC).date().isoformat(),
        "cpu_hours": round(sum(epoch["cpu_s"] for t in trainings for epoch in t["epochs"]) / 3600, 3),
        "machine": machine(),
        "epochs": space.budget.epochs,
        "seeds": [base_seed + seed for seed in range(seeds)],
        "found": dict(Counter(failure[0] for failure in failures if failure)),
        "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (DATA, HEALTH)},
        **facts,
        "configs": configs,
    }
    (out / FACTS).write_text(_text(everything))


def _facts(trainings: Sequence[Training], failures: Sequence[Failure | None]) -> dict[str, Any]:
    """Returns the names that the arrays' last axes stand for."""
    first = next(t for t in trainings if t["epochs"])["epochs"][0]
    read_outs = ["read_step", *(name for name in first["read_outs"][0] if name != "read_step")]
    kinds = sorted({failure[0] for failure in failures if failure})
    return {"metrics": list(first["metrics"]), "read_outs": read_outs, "failures": [None, *kinds]}


def _arrays(
    trainings: Sequence[Training],
    failures: Sequence[Failure | None],
    facts: Mapping[str, Any],
    shape: tuple[int, int, int],
) -> dict[str, Any]:
    """Returns the arrays [config, seed, epoch, ...]; what a training has not is NaN."""
    steps = max(len(t["epochs"][0]["read_outs"]) for t in trainings if t["epochs"])
    metrics = np.full((*shape, len(facts["metrics"])), np.nan, np.float32)
    read_outs = np.full((*shape, steps, len(facts["read_outs"])), np.nan, np.float32)
    cpu_s = np.full(shape, np.nan, np.float32)
    done, failure = np.zeros(shape[:2], np.int16), np.zeros(shape[:2], np.int8)
    failed_after = np.full(shape[:2], np.nan, np.float32)
    for training, found in zip(trainings, failures, strict=True):
        at = training["config"], training["seed"]
        done[at] = len(training["epochs"])
        for i, epoch in enumerate(training["epochs"]):
            metrics[at][i] = [epoch["metrics"][name] for name in facts["metrics"]]
            cpu_s[at][i] = epoch["cpu_s"]
            for j, row in enumerate(epoch["read_outs"]):
                read_outs[at][i, j] = [row[name] for name in facts["read_outs"]]
        if found is not None:
            failure[at], failed_after[at] = facts["failures"].index(found[0]), found[1] / training["batches"]
    return {
        "metrics": metrics,
        "read_outs": read_outs,
        "cpu_s": cpu_s,
        "done": done,
        "failure": failure,
        "failed_after": failed_after,
    }


def _seen(training: Training) -> Seen:
    """Returns what health is judged by: looks into batches, the rates that each evaluation found, and how it ended."""
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
                "batch": look["batch"],
                "neurons": {name: [short(x) for x in seen] for name, seen in look["neurons"].items()},
                "gradients": {name: short(norm) for name, norm in look["gradients"].items()},
            }
            for look in training["looks"]
        ],
        "rates": [{name: short(rate) for name, rate in epoch["rates"].items()} for epoch in training["epochs"]],
        "routes": training["routes"],
    }


def _text(facts: Mapping[str, Any]) -> str:
    """Returns JSON with one line for each fact, and one for each config."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items() if key != "configs"]
    configs = ",\n".join(f"    {json.dumps(values)}" for values in facts["configs"])
    return "{\n" + ",\n".join(lines) + ',\n  "configs": [\n' + configs + "\n  ]\n}\n"
