"""Speed-up of a fused training step over single ones: `python -m benchmarks.fused --json F`.

K trainings of the digits recipe's Spikformer (width 32, T = 4) take their steps one after the other, then fused. A step
includes sampling and augmentation of the batch; it runs on one thread and is measured in process CPU time. Each figure
is the median over rounds of the ratio within a round. With a GPU, wall time is measured there too, and compared with K
processes that share the GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from benchmarks import report
from benchmarks.train_step import in_turn
from trainers import loop
from trainers.config import TrainConfig, load, recipe_path
from trainers.data.split import Split
from trainers.fused.training import FusedJob, FusedTraining, Member
from trainers.optimization.gpu_step import batch_statistics, untracked_norms, without_biases
from trainers.train import Training

STEPS = 4
"""Steps of one round, each with a different batch."""
SIZES = {"8x8": (8, 2), "16x16": (16, 2), "32x32": (32, 4)}
"""Image size and patch size in pixels."""
CUDA_SIZE = 8
UNPROBED_BATCH = 51
"""A batch without health checks, as most batches of a training."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fused", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes-s", type=float, default=10.0, help="seconds of each run of processes (GPU)")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for batch in (16, 64):
        for size in (4, 8):
            name = f"cpu_k{size}_b{batch}"
            details[name] = measure(configs(size, batch, "cpu", "8x8"), arguments.rounds, time.process_time)
            figures[name] = details[name]["ratio"]
    if torch.cuda.is_available():
        for pixels in SIZES:
            for batch in (16, 64, 128):
                name = f"cuda_k{CUDA_SIZE}_b{batch}_{pixels}"
                members = configs(CUDA_SIZE, batch, "cuda", pixels)
                details[name] = measure(members, arguments.rounds, gpu_clock)
                figures[name] = details[name]["ratio"]
                at_once = in_processes(members, arguments.processes_s) * details[name]["one_by_one_s"] / CUDA_SIZE
                details[name]["processes_over_one_by_one"] = at_once
    report.write(figures | {"details": details, "machine": report.machine()}, arguments.json)


def configs(size: int, batch: int, device: str, pixels: str) -> list[TrainConfig]:
    """Returns configs of one shape with different numbers."""
    side, patch = SIZES[pixels]
    base = load(recipe_path("spikformer/digits")).dump()
    keys = {"embed_dim": 32, "step": 4, "batch_size": batch, "img_size": side, "patch_size": patch, "distort": False}
    return [
        TrainConfig.model_validate(
            {**base, **keys, "device": device, "seed": k, "tau": 1.5 + 0.1 * k, "threshold": 0.8 + 0.05 * k}
        )
        for k in range(size)
    ]


def measure(members: list[TrainConfig], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Returns the throughput of the fused training over that of its members one by one, and the seconds of a step."""
    single = [Training(config, parts=random_images(config)) for config in members]
    joined = [Member(k, FusedJob(config), random_images(config)) for k, config in enumerate(members)]
    fused = FusedTraining(joined)

    def run_single() -> None:
        for training in single:
            _steps(training, STEPS)

    def run_fused() -> None:
        for member in joined:
            member.start_epoch()
        for _ in range(STEPS):
            fused.step(UNPROBED_BATCH, 10**6)

    taken = in_turn({"one_by_one": run_single, "fused": run_fused}, rounds, clock)
    return {
        "ratio": median(a / b for a, b in zip(taken["one_by_one"], taken["fused"], strict=True)),
        **{f"{name}_s": median(seconds) / STEPS for name, seconds in taken.items()},
    }


def in_processes(members: list[TrainConfig], seconds: float) -> float:
    """Returns the steps per second of all members, each in a separate process on the same device."""
    workers = []
    for config in members:
        here, there = multiprocessing.Pipe()
        multiprocessing.get_context("spawn").Process(target=_train, args=(there, config), daemon=True).start()
        workers.append(here)
    for worker in workers:
        worker.recv()
    for worker in workers:
        worker.send(seconds)
    done: list[int] = [worker.recv() for worker in workers]
    return sum(done) / seconds


def _train(connection: Connection, config: TrainConfig) -> None:
    training = Training(config, parts=random_images(config))
    _steps(training, 2)
    connection.send(0)
    done, ending = 0, time.monotonic() + connection.recv()
    while time.monotonic() < ending:
        done += _steps(training, STEPS)
        gpu_clock()
    connection.send(done)


def _steps(training: Training, count: int) -> int:
    training.start_epoch(0)
    learner = training.learner
    learner.model.train()
    with batch_statistics(untracked_norms(learner.model)), without_biases(learner.left_out):
        for (images, labels), _ in zip(training.data.shuffled(training.config.batch_size), range(count), strict=False):
            loop.train_step(learner, images, labels, training.config)
    return count


def random_images(config: TrainConfig) -> tuple[Split, Split]:
    """Returns random images, enough for the steps of a round."""
    generator = torch.Generator().manual_seed(0)
    shape = (STEPS * config.batch_size, 1, config.img_size, config.img_size)
    images = torch.randint(256, shape, generator=generator).to(torch.uint8)
    data = Split(images, torch.randint(10, (len(images),), generator=generator))
    return data, data


def gpu_clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
