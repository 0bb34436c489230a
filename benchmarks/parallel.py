"""Throughput of two trials of one thread each over that of one: `python -m benchmarks.parallel --json F`.

Wall time is measured alternately: one process alone, then both. `two_over_one` is the median over rounds, near 2 on two
idle cores and near 1 if other work uses one of them; `load_before` is the load of the machine before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from statistics import median

import torch

from benchmarks import report
from benchmarks.train_step import SIZES
from benchmarks.variants import make_step
from models import create_model


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    first, second = (start() for _ in range(2))
    ratios = []
    for _ in range(arguments.rounds):
        (alone,) = steps_in(arguments.seconds, [first])
        ratios.append(sum(steps_in(arguments.seconds, [first, second])) / alone)
    for worker in (first, second):
        worker.send(None)
    figures = {"two_over_one": median(ratios), "rounds": ratios, "load_before": load, "machine": report.machine()}
    report.write(figures, arguments.json)


def start() -> Connection:
    """Starts a process that trains on command, and returns the connection to it."""
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=_train, args=(there,), daemon=True).start()
    here.recv()
    return here


def steps_in(seconds: float, workers: list[Connection]) -> list[int]:
    """Returns the steps that each worker makes in that time, all in parallel."""
    for worker in workers:
        worker.send(seconds)
    return [worker.recv() for worker in workers]


def _train(connection: Connection) -> None:
    torch.set_num_threads(1)
    size = SIZES["8x8"]
    keys = {"model": "spikformer_cifar", "step": 4, "embed_dim": 32, "num_heads": 2, "depths": 1, "num_classes": 10}
    model = create_model({**keys, "in_channels": 3, "img_size": size.pixels, "patch_size": size.patch})
    step = make_step(model, torch.randn(16, 3, size.pixels, size.pixels), torch.randint(10, (16,)))
    step()
    connection.send(0)
    while (seconds := connection.recv()) is not None:
        done, ending = 0, time.monotonic() + seconds
        while time.monotonic() < ending:
            step()
            done += 1
        connection.send(done)


if __name__ == "__main__":
    main()
