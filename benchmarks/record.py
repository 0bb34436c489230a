"""Records the learning curves of all configs of a discrete space: `python -m benchmarks.record SPACE`.

Each training is a file in `runs/record/<study>/`. An interrupted recording is resumed by the same command, and several
recorders may share one folder. The first seed of all configs comes first, in a shuffled order, so that partial
recordings are useful. Once complete, the table is written beside the space file, or to `--out`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import table
from config.errors import ConfigError
from search.space import reader
from search.space.space import Space
from trainers import loop
from trainers.config import TrainConfig
from trainers.data import Data, load_train
from trainers.diagnostics.health import Activity, Health, TrainingFailure, check_finite, gradient_faults
from trainers.train import Training

CHECKED_BATCHES = frozenset({1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 50})
"""Batches whose activities and gradients are recorded, besides the last one of each epoch."""
PROGRESS_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Records the missing trainings, then writes the table, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("space", metavar="SPACE", help="space file whose keys are all choice or int")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each config")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, help="folder of the table (default: the space file's)")
    arguments = parser.parse_args(argv)
    try:
        space = reader.load(arguments.space)
        configs = len(table.feasible_grid(space))
        folder = prepare(space)
        _run(arguments.space, order(configs, arguments.seeds), folder, arguments.workers)
        trainings = table.read(folder, configs, arguments.seeds)
        table.write(space, trainings, arguments.seeds, arguments.out or Path(arguments.space).parent)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def order(configs: int, seeds: int) -> list[tuple[int, int]]:
    """Returns (config, seed) of all trainings: seed by seed, the configs shuffled, always in the same order."""
    shuffled = np.random.default_rng(0).permutation(configs).tolist()
    return [(config, seed) for seed in range(seeds) for config in shuffled]


def prepare(space: Space) -> Path:
    """Returns the folder of the recording. Raises ConfigError when another space is being recorded there."""
    folder = Path("runs") / "record" / space.study
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.yml"
    if not path.exists():
        path.write_text(space.yaml())
    elif path.read_text() != space.yaml():
        raise ConfigError(f"{folder} holds a recording of another {space.study}; remove it, or rename the study")
    return folder


def _run(path: str, tasks: list[tuple[int, int]], folder: Path, workers: int) -> None:
    """Runs worker processes until all trainings are recorded, and prints the progress."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=work, args=(path, tasks, folder), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    started, before = time.monotonic(), _count(folder)
    while any(process.is_alive() for process in processes):
        next((process for process in processes if process.is_alive()), processes[0]).join(PROGRESS_S)
        done = _count(folder)
        per_training_s = (time.monotonic() - started) / max(1, done - before)
        left = (len(tasks) - done) * per_training_s / 60
        print(f"{folder.name}: {done} of {len(tasks)} recorded, about {left:.0f} min left", flush=True)


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.json.gz")))


def work(path: str, tasks: list[tuple[int, int]], folder: Path) -> None:
    """Records, one by one, the trainings that are neither recorded nor claimed by another process."""
    space = reader.load(path)
    configs, loaded = table.feasible_grid(space), Loaded()
    for config, seed in tasks:
        with Claim(folder / f"c{config:04}-s{seed}") as target:
            if target is None:
                continue
            chosen = space.train_config(configs[config])
            keys = {"seed": chosen.seed + seed, "threads": 1, "device": "cpu"}
            found = record(chosen.model_copy(update=keys), loaded)
            part = target.with_suffix(".part")
            with gzip.open(part, "wt") as file:
                json.dump({"config": config, "seed": seed, **found}, file)
            part.rename(target)


class Claim:
    """Context manager of the file to write; None if it exists or another live process is writing it."""

    def __init__(self, stem: Path) -> None:
        self.target = stem.with_name(stem.name + ".json.gz")
        self.lock = stem.with_name(stem.name + ".lock")
        self.is_mine = False

    def __enter__(self) -> Path | None:
        if not self.target.exists():
            self.is_mine = self._take() or (not self._is_held() and self._take_over())
        if self.is_mine and self.target.exists():  # finished in between
            self.__exit__()
            self.is_mine = False
        return self.target if self.is_mine else None

    def __exit__(self, *error: object) -> None:
        if self.is_mine:
            self.lock.unlink(missing_ok=True)

    def _take(self) -> bool:
        try:
            descriptor = os.open(self.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            file.write(str(os.getpid()))
        return True

    def _is_held(self) -> bool:
        try:
            os.kill(int(self.lock.read_text() or os.getpid()), 0)  # an empty file is being written right now
        except (FileNotFoundError, ProcessLookupError):
            return False
        except PermissionError:
            return True
        return True

    def _take_over(self) -> bool:
        self.lock.unlink(missing_ok=True)
        return self._take()


@dataclass
class Loaded:
    """Training and validation data, each combination loaded once."""

    parts: dict[tuple[Any, ...], tuple[Data, Data]] = field(default_factory=dict)

    def of(self, config: TrainConfig) -> tuple[Data, Data]:
        part = (config.val_fraction, config.split_seed, config.train_images)
        key = (config.dataset, config.step, config.img_size, *part)
        if key not in self.parts:
            self.parts[key] = load_train(config)
        return self.parts[key]


@dataclass
class HealthRecorder(Health):
    """Records the observations, and raises for values that are not finite alone."""

    batch: int = 0
    batches: int = 1
    checks: list[dict[str, Any]] = field(default_factory=list)

    def is_due(self, batch: int, batches: int) -> bool:
        self.batch, self.batches = batch, batches
        return batch in CHECKED_BATCHES or batch % batches == 0

    def check_batch(self, activities: Mapping[str, Activity], gradients: Mapping[str, float], batch: int) -> None:
        neurons = {name: [a.rate, a.never, a.always] for name, a in activities.items()}
        self.checks.append({"batch": batch, "neurons": neurons, "gradients": dict(gradients)})
        gradient_faults(gradients)

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]], batch: int) -> None:
        check_finite(metrics)


def record(config: TrainConfig, loaded: Loaded) -> dict[str, Any]:
    """Trains a config to the end, regardless of the health rules, and returns all observations."""
    training = Training(config, parts=loaded.of(config))
    recorder = training.probe.health = HealthRecorder(training.probe.health.routes)
    epochs: list[dict[str, Any]] = []
    diverged = None
    try:
        for epoch in range(config.epochs):
            started = time.process_time()
            training.start_epoch(epoch)
            speed = loop.train_epoch(training.learner, training.data, config, step_context=training.probe.step)
            report = training.evaluate(epoch, speed)
            rates = {row["name"]: row["spike_rate"] for row in report.layers if "spike_rate" in row}
            metrics = {"metrics": report.metrics, "read_outs": report.read_outs, "rates": rates}
            epochs.append({**metrics, "cpu_s": time.process_time() - started})
    except TrainingFailure:
        diverged = recorder.batch
    routes = {name: sorted(sources) for name, sources in (recorder.routes or {}).items()}
    return {
        "epochs": epochs,
        "diverged": diverged,
        "batches": recorder.batches,
        "looks": recorder.checks,
        "routes": routes,
    }


if __name__ == "__main__":
    sys.exit(main())
