"""Packs the trainings of a recording into a table that `search.curves` reads."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine
from models.config import ConfigError
from search.curves import DATA, FACTS, SPACE, grid
from search.space import Space

HEALTH = "health.jsonl.gz"
"""What the health checks saw in the first 50 batches of each training, a line a training."""
EARLY = 50

Training = dict[str, Any]


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
    facts = _facts(trainings)
    arrays: dict[str, Any] = _arrays(trainings, facts, (len(configs), seeds, space.budget.epochs))
    np.savez_compressed(out / DATA, **arrays)
    lines = [json.dumps(_health(training), separators=(",", ":")) for training in trainings]
    (out / HEALTH).write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    if not (out / SPACE).exists():
        (out / SPACE).write_text(space.yaml())
    base_seed = space.config(configs[0]).seed
    everything = {
        "table": space.study,
        "recorded": datetime.now(UTC).date().isoformat(),
        "cpu_hours": round(sum(epoch["cpu_s"] for t in trainings for epoch in t["epochs"]) / 3600, 3),
        "machine": machine(),
        "epochs": space.budget.epochs,
        "seeds": [base_seed + seed for seed in range(seeds)],
        "found": dict(Counter(t["failure"][0] for t in trainings if t["failure"])),
        "batches": trainings[0]["batches"],
        "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (DATA, HEALTH)},
        **facts,
        "configs": configs,
    }
    (out / FACTS).write_text(_text(everything))


def _facts(trainings: Sequence[Training]) -> dict[str, Any]:
    """Returns the names that the arrays' last axes stand for."""
    first = next(t for t in trainings if t["epochs"])["epochs"][0]
    read_outs = ["read_step", *(name for name in first["read_outs"][0] if name != "read_step")]
    kinds = sorted({t["failure"][0] for t in trainings if t["failure"]})
    return {"metrics": list(first["metrics"]), "read_outs": read_outs, "failures": [None, *kinds]}


def _arrays(trainings: Sequence[Training], facts: Mapping[str, Any], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the arrays [config, seed, epoch, ...]; what a training has not is NaN."""
    steps = max(len(t["epochs"][0]["read_outs"]) for t in trainings if t["epochs"])
    metrics = np.full((*shape, len(facts["metrics"])), np.nan, np.float32)
    read_outs = np.full((*shape, steps, len(facts["read_outs"])), np.nan, np.float32)
    cpu_s = np.full(shape, np.nan, np.float32)
    done, failure = np.zeros(shape[:2], np.int16), np.zeros(shape[:2], np.int8)
    failed_after = np.full(shape[:2], np.nan, np.float32)
    for training in trainings:
        at = training["config"], training["seed"]
        done[at] = len(training["epochs"])
        for i, epoch in enumerate(training["epochs"]):
            metrics[at][i] = [epoch["metrics"][name] for name in facts["metrics"]]
            cpu_s[at][i] = epoch["cpu_s"]
            for j, row in enumerate(epoch["read_outs"]):
                read_outs[at][i, j] = [row[name] for name in facts["read_outs"]]
        if training["failure"] is not None:
            failure[at] = facts["failures"].index(training["failure"][0])
            failed_after[at] = training["failure"][1]
    return {
        "metrics": metrics,
        "read_outs": read_outs,
        "cpu_s": cpu_s,
        "done": done,
        "failure": failure,
        "failed_after": failed_after,
    }


def _health(training: Training) -> dict[str, Any]:
    """Returns what the health checks saw early on, and of each later epoch the rates that its evaluation found."""
    return {
        "config": training["config"],
        "seed": training["seed"],
        "looks": [
            {
                "batch": look["batch"],
                "neurons": {name: [_short(x) for x in seen] for name, seen in look["neurons"].items()},
                "gradients": {name: _short(norm) for name, norm in look["gradients"].items()},
            }
            for look in training["looks"]
            if look["batch"] <= EARLY
        ],
        "rates": [{name: _short(rate) for name, rate in epoch["rates"].items()} for epoch in training["epochs"]],
        "routes": training["routes"],
    }


def _short(value: float) -> float | str:
    """Returns a number to four digits, or its name where JSON has none."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


def _text(facts: Mapping[str, Any]) -> str:
    """Returns JSON with one line for each fact, and one for each config."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items() if key != "configs"]
    configs = ",\n".join(f"    {json.dumps(values)}" for values in facts["configs"])
    return "{\n" + ",\n".join(lines) + ',\n  "configs": [\n' + configs + "\n  ]\n}\n"
