"""Searches with exits against searches without, of equal budget, in one process and without Ray.

Both measure exit points of every trial. A search without exits does not see them: its trials are compared by the plain
read-out after all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from config import strict_yaml
from results import pareto
from search.space import reader
from search.storage.database import open_storage
from search.storage.study import Study
from trainers.config import TrainConfig
from trainers.diagnostics.health import TrainingFailure
from trainers.epoch_metrics import EpochMetrics
from trainers.exits.settings import ExitSettings
from trainers.train import train

SPACE = """
study: exits
base: spikformer/digits
fixed: {distort: true, val_fraction: 0.3, train_images: 320, embed_dim: 16, num_heads: 2, batch_size: 64}
objectives: {accuracy: maximize, synops: minimize}
space:
  step: {choice: [2, 3, 4, 6]}
  tet: {choice: [none, 0.0]}
  tau: {uniform: [1.1, 3.0]}
  threshold: {uniform: [0.5, 1.5]}
  lr: {log_uniform: [0.003, 0.03]}
budget: {trials: 12, epochs: 9}
"""
POINTS = 12

Point = tuple[float, float]
"""Error in percent, and synops."""


class _Stopped(Exception):
    """The search stops or pauses the trial."""


def compare_searches(folder: Path, seeds: int) -> dict[str, Any]:
    """Returns the mean hypervolumes of both kinds of search, and the ratios of them."""
    found = {
        kind: [search(folder / f"{kind}-{seed}", seed, with_exits=kind == "with") for seed in range(seeds)]
        for kind in ("with", "without")
    }
    fronts = [front for runs in found.values() for front in runs]
    points = [point for plain, exits in fronts for point in (*plain, *exits)]
    corner = (90.0, max(synops for _, synops in points))

    def volume(points: Sequence[Point]) -> float:
        return pareto.hypervolume(points, corner) / (corner[0] * corner[1])

    volumes = {
        f"{kind} exits, judged {how}": [
            volume([*plain, *exits] if how == "with them" else plain) for plain, exits in runs
        ]
        for kind, runs in found.items()
        for how in ("with them", "without")
    }
    means = {name: mean(values) for name, values in volumes.items()}

    def ratio(first: str, second: str) -> float:
        return means[first] / means[second] if means[second] else 0.0

    return {
        "hypervolume_ratio": ratio("with exits, judged with them", "without exits, judged with them"),
        "ratio_judged_without": ratio("with exits, judged without", "without exits, judged without"),
        "ratio_to_plain": ratio("with exits, judged with them", "without exits, judged without"),
        "volumes": volumes,
    }


def search(folder: Path, seed: int, *, with_exits: bool) -> tuple[list[Point], list[Point]]:
    """Returns the read-outs and the exit points of all full trainings of one search."""
    folder.mkdir(parents=True)
    overrides = [f"seed={seed}", *([f"exits={{points: {POINTS}}}"] if with_exits else [])]
    space = reader.read(strict_yaml.override(strict_yaml.parse(SPACE, "exits.yml"), overrides))
    study = Study(space, folder, open_storage(folder))
    complete: dict[int, EpochMetrics] = {}
    while (task := study.next_task()) is not None:
        number, config = task.number, TrainConfig.model_validate({**task.config, "exit_rule": "confidence"})

        def on_epoch(metrics: EpochMetrics, number: int = number, last: int = config.epochs) -> None:
            seen = metrics if with_exits else replace(metrics, exits=[])
            if metrics.epoch == last:
                complete[number] = metrics
            if study.on_result(number, seen) == "stop":
                raise _Stopped

        try:
            train(config, on_epoch, Path(task.folder), exits=ExitSettings(POINTS))
        except _Stopped:
            pass
        except TrainingFailure as failure:
            study.on_error(number, failure.failure_class, str(failure))
    ended = {trial.number for trial in study.result().select("complete")}
    study.close()
    kept = [metrics for number, metrics in complete.items() if number in ended]
    return (
        [_point(row) for metrics in kept for row in metrics.read_outs if row["accuracy"] > row["chance"]],
        [_point(row) for metrics in kept for row in metrics.exits if row["accuracy"] > row["chance"]],
    )


def _point(row: dict[str, Any]) -> Point:
    return 100.0 - row["accuracy"], row["synops"]
