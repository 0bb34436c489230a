"""Accuracy at each read-out with TET's loss and with averaged weights: `python -m benchmarks.tet --json F`.

The digits recipe's Spikformer (width 16, T = 4, distorted digits) is trained with each method and five seeds. The seeds
of a method are one fused training. A seed has the same initial weights, data order and validation images with every
method, so gains are differences within a seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks import report
from trainers.config import TrainConfig, load, recipe_path
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.training import FusedJob, Outcome, train_fused

SEEDS = 5
EPOCHS = 16
BASE = {"embed_dim": 16, "step": 4, "read_step": 4, "lr": 0.01}
METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tet 0": {"tet": 0.0},
    "tet 0.05": {"tet": 0.05},
    "ema": {"model_ema": True},
    "tet 0.05 + ema": {"tet": 0.05, "model_ema": True},
}
"""The changed keys of each method."""

Accuracies = list[list[float]]
"""Accuracy in percent by seed and read-out."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tet", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="only these")
    arguments = parser.parse_args()
    started = time.process_time()
    accuracies: dict[str, Accuracies] = {}
    spikes: dict[str, float] = {}
    for name in arguments.methods:
        last = trained(configs(METHODS[name], arguments.seeds, arguments.epochs))
        accuracies[name] = [[row["accuracy"] for row in epoch.read_outs] for epoch in last]
        spikes[name] = mean(epoch.metrics["spikes"] for epoch in last)
        print(f"{name}: {accuracies[name]}", flush=True)
    figures = {"gains": gains(accuracies), "means": means(accuracies), "spikes": spikes, "accuracies": accuracies}
    report.write(figures | {"cpu_s": time.process_time() - started, "machine": report.machine()}, arguments.json)


def configs(keys: Mapping[str, Any], seeds: int, epochs: int) -> list[TrainConfig]:
    """Returns the configs of a method, one for each seed."""
    base = load(recipe_path("spikformer/digits")).dump() | BASE
    return [TrainConfig.model_validate({**base, "epochs": epochs, **keys, "seed": seed}) for seed in range(seeds)]


def trained(members: Sequence[TrainConfig]) -> list[EpochMetrics]:
    """Returns the last epoch of each member of a fused training. Raises the exception of one that failed."""
    last: dict[Hashable, EpochMetrics] = {}

    def on_epochs(outcomes: dict[Hashable, Outcome]) -> Collection[Hashable]:
        for name, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                raise outcome
            last[name] = outcome
        return []

    train_fused({k: FusedJob(config) for k, config in enumerate(members)}, on_epochs)
    return [last[k] for k in range(len(members))]


def means(accuracies: Mapping[str, Accuracies]) -> dict[str, list[dict[str, float]]]:
    """Returns the mean accuracy of each method at each read-out, with its standard error over the seeds."""
    return {name: [_summary(column) for column in zip(*rows, strict=True)] for name, rows in accuracies.items()}


def gains(accuracies: Mapping[str, Accuracies]) -> dict[str, list[dict[str, float]]]:
    """Returns the mean gain over `plain` within a seed at each read-out, with its standard error over the seeds."""
    if "plain" not in accuracies:
        return {}
    differences = {
        name: [
            [accuracy - before for accuracy, before in zip(row, plain, strict=True)]
            for row, plain in zip(rows, accuracies["plain"], strict=True)
        ]
        for name, rows in accuracies.items()
        if name != "plain"
    }
    return means(differences)


def _summary(values: Sequence[float]) -> dict[str, float]:
    spread = stdev(values) if len(values) > 1 else float("nan")
    return {"mean": mean(values), "standard_error": spread / len(values) ** 0.5}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
