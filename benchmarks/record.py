"""Records the learning curves of all configs of a discrete space: `python -m benchmarks.record SPACE`.

Each training is a file in `runs/record/<study>/`. An interrupted recording is resumed by the same command, and several
recorders may share one folder. The first seed of all configs comes first, in a shuffled order, so that partial
recordings are useful. Once complete, the table is written beside the space file, or to `--out`. `--fuse K` trains up
to K configs of one shape as one; the CPU seconds of such an epoch are divided among them.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import table
from config.errors import ConfigError
from search.execution.batching import batch_positions
from search.space import reader
from search.space.space import Space
from trainers import loop
from trainers.config import TrainConfig
from trainers.data import Data, load_train
from trainers.diagnostics.health import Activity, Health, TrainingFailure, check_finite, gradient_faults
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.training import FusedJob, Member, train_epoch
from trainers.train import Training

Task = tuple[int, int]
"""Number of a config and position of a seed."""

CHECKED_BATCHES = frozenset({1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 50})
"""Batches whose activities and gradients are recorded, besides the last one of each epoch."""
PROGRESS_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Records the missing trainings, then writes the table, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("space", metavar="SPACE", help="space file whose keys are all choice or int")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each config")
    parser.add_argument("--repeated", type=int, help="configs that are trained with all seeds (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--fuse", type=int, default=1, help="trainings of one shape that run as one")
    parser.add_argument("--out", type=Path, help="folder of the table (default: the space file's)")
    arguments = parser.parse_args(argv)
    try:
        space = reader.load(arguments.space)
        configs = [space.train_config(values) for values in table.feasible_grid(space)]
        folder = prepare(space)
        tasks = order(len(configs), arguments.seeds, arguments.repeated)
        _run(arguments.space, batches(configs, tasks, arguments.fuse), folder, arguments.workers)
        trainings = table.read(folder, tasks)
        table.write(space, trainings, arguments.seeds, arguments.out or Path(arguments.space).parent)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def order(configs: int, seeds: int, repeated: int | None = None) -> list[Task]:
    """Returns (config, seed) of all trainings, always in the same order: seed by seed, the configs shuffled.

    Only the first `repeated` configs are trained with more than the first seed.
    """
    shuffled = np.random.default_rng(0).permutation(configs).tolist()
    return [(config, seed) for seed in range(seeds) for config in (shuffled[:repeated] if seed else shuffled)]


def batches(configs: Sequence[TrainConfig], tasks: Sequence[Task], size: int) -> list[list[Task]]:
    """Returns the tasks in batches that train as one: of one seed and shape, at most `size`."""
    found: list[list[Task]] = []
    for seed in sorted({seed for _, seed in tasks}):
        numbers = [config for config, of in tasks if of == seed]
        positions = batch_positions([configs[number].dump() for number in numbers], size, slots=1)
        found += [[(numbers[position], seed) for position in batch] for batch in positions]
    return found


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


def _run(path: str, tasks: list[list[Task]], folder: Path, workers: int) -> None:
    """Runs worker processes until all trainings are recorded, and prints the progress."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=work, args=(path, tasks, folder), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    started, before, number = time.monotonic(), _count(folder), sum(map(len, tasks))
    while any(process.is_alive() for process in processes):
        next((process for process in processes if process.is_alive()), processes[0]).join(PROGRESS_S)
        done = _count(folder)
        line = f"{folder.name}: {done} of {number} recorded"
        print(line + time_left(number - done, done - before, time.monotonic() - started), flush=True)


def time_left(missing: int, recorded: int, seconds: float) -> str:
    """Returns how long the missing trainings will take, in words, at the pace of those recorded; empty without one."""
    return f", about {missing * seconds / recorded / 60:.0f} min left" if recorded else ""


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.json.gz")))


def work(path: str, tasks: list[list[Task]], folder: Path) -> None:
    """Records, batch by batch, the trainings that are neither recorded nor claimed by another process."""
    space = reader.load(path)
    values, loaded = table.feasible_grid(space), Loaded()
    for batch in tasks:
        with ExitStack() as claims:
            claimed = {task: claims.enter_context(Claim(folder / table.stem(task))) for task in batch}
            targets = {task: target for task, target in claimed.items() if target is not None}
            configs = [_config(space.train_config(values[config]), seed) for config, seed in targets]
            found = record_fused(configs, loaded) if len(configs) > 1 else [record(one, loaded) for one in configs]
            for ((config, seed), target), training in zip(targets.items(), found, strict=True):
                part = target.with_suffix(".part")
                with gzip.open(part, "wt") as file:
                    json.dump({"config": config, "seed": seed, **training}, file)
                part.rename(target)


def _config(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": config.seed + seed, "threads": 1, "device": "cpu"})


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


class Recording:
    """Observations of one training, which runs to the end regardless of the health rules."""

    def __init__(self, training: Training) -> None:
        self.recorder = training.probe.health = HealthRecorder(training.probe.health.routes)
        self.epochs: list[dict[str, Any]] = []
        self.diverged: int | None = None

    def add(self, report: EpochMetrics, cpu_s: float) -> None:
        """Adds an epoch."""
        rates = {row["name"]: row["spike_rate"] for row in report.layers if "spike_rate" in row}
        metrics = {"metrics": report.metrics, "read_outs": report.read_outs, "rates": rates}
        self.epochs.append({**metrics, "cpu_s": cpu_s})

    def end(self, failure: Exception) -> None:
        """Notes the batch in which the training diverged. Raises any other exception."""
        if not isinstance(failure, TrainingFailure):
            raise failure
        self.diverged = self.recorder.batch

    def observations(self) -> dict[str, Any]:
        """Returns all that was observed."""
        return {
            "epochs": self.epochs,
            "diverged": self.diverged,
            "batches": self.recorder.batches,
            "looks": self.recorder.checks,
            "routes": {name: sorted(sources) for name, sources in (self.recorder.routes or {}).items()},
        }


def record(config: TrainConfig, loaded: Loaded) -> dict[str, Any]:
    """Trains a config to the end and returns all observations."""
    training = Training(config, parts=loaded.of(config))
    recording = Recording(training)
    try:
        for epoch in range(config.epochs):
            started = time.process_time()
            training.start_epoch(epoch)
            speed = loop.train_epoch(training.learner, training.data, config, step_context=training.probe.step)
            recording.add(training.evaluate(epoch, speed), time.process_time() - started)
    except TrainingFailure as failure:
        recording.end(failure)
    return recording.observations()


def record_fused(configs: Sequence[TrainConfig], loaded: Loaded) -> list[dict[str, Any]]:
    """Trains configs of one shape as one, each to the end, and returns all observations of each."""
    members = [Member(number, FusedJob(config), loaded.of(config)) for number, config in enumerate(configs)]
    recordings = {member.name: Recording(member.training) for member in members}
    while members:
        started = time.process_time()
        outcomes = train_epoch(members)
        cpu_s = (time.process_time() - started) / len(members)
        for number, outcome in outcomes.items():
            recording = recordings[number]
            if isinstance(outcome, Exception):
                recording.end(outcome)
            else:
                recording.add(outcome, cpu_s)
        members = [m for m in members if not isinstance(outcomes[m.name], Exception) and m.num_epochs < m.config.epochs]
    return [recording.observations() for recording in recordings.values()]


if __name__ == "__main__":
    sys.exit(main())
