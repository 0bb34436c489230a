"""Speed of a training step, compared with SpikingJelly's neurons and with ReLU in their place.

`python -m benchmarks.train_step --json F`. Variants of one model run their steps alternately, in one process on one
thread, timed by process CPU time. Each figure is the median over rounds of the ratio within a round, which cancels
other load on the machine. With compilation, only the layers of neurons of each variant are compiled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks import report
from benchmarks.variants import VARIANTS, make_step, variant
from models import create_model
from models.neurons.compiled import passes
from trainers.diagnostics.memory import keep_freed_memory

WARM_UP = 2


@dataclass(frozen=True)
class Size:
    """Pixels per side, pixels per token side, images per batch; all have 64 tokens."""

    pixels: int
    patch: int
    batch: int


SIZES = {"8x8": Size(8, 1, 64), "16x16": Size(16, 2, 64), "32x32": Size(32, 4, 16)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each variant (default 15)")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in every training
    sizes: dict[str, Any] = {name: {"eager": measure(size, arguments.rounds)} for name, size in SIZES.items()}
    compiles = not arguments.no_compile and passes() is not None
    if compiles:
        for name, size in SIZES.items():
            sizes[name]["compiled"] = measure(size, arguments.rounds, compiled=True)
    figures: dict[str, Any] = {**summary(sizes, "eager", ""), **summary(sizes, "compiled", "_compiled")}
    figures |= {"sizes": sizes, "compiled": compiles, "machine": report.machine()}
    if torch.cuda.is_available():
        from benchmarks import cuda_step

        figures["cuda"] = cuda_step.measure(arguments.rounds)
    report.write(figures, arguments.json)


def measure(size: Size, rounds: int, *, compiled: bool = False) -> dict[str, float]:
    """Returns the ratios at one size, and the seconds per step of each variant."""
    torch.manual_seed(0)
    keys = {"model": "spikformer_cifar", "step": 4, "embed_dim": 64, "num_heads": 4, "depths": 2, "num_classes": 10}
    model = create_model({**keys, "in_channels": 3, "img_size": size.pixels, "patch_size": size.patch})
    x = torch.randn(size.batch, 3, size.pixels, size.pixels)
    labels = torch.randint(10, (size.batch,))
    steps = {name: make_step(variant(model, name, compiled=compiled), x, labels) for name in VARIANTS}
    seconds = in_turn(steps, rounds, time.process_time)
    return ratios(seconds) | {f"{name}_s": median(taken) for name, taken in seconds.items()}


def in_turn(
    steps: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Returns the seconds of each step in each round; the steps run alternately."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for done in range(WARM_UP + rounds):
        for name, step in steps.items():
            started = clock()
            step()
            if done >= WARM_UP:
                seconds[name].append(clock() - started)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Returns our speed over SpikingJelly's and over ReLU's, as medians of the ratios within a round."""
    return {
        "step_vs_spikingjelly": median(a / b for a, b in zip(seconds["spikingjelly"], seconds["ours"], strict=True)),
        "fraction_of_relu_limit": median(a / b for a, b in zip(seconds["relu"], seconds["ours"], strict=True)),
    }


def summary(sizes: dict[str, Any], kind: str, suffix: str) -> dict[str, float | None]:
    """Returns the medians over the sizes; None if not measured."""
    names = ("step_vs_spikingjelly", "fraction_of_relu_limit")
    measured = [size[kind] for size in sizes.values() if kind in size]
    return {name + suffix: median(size[name] for size in measured) if measured else None for name in names}


if __name__ == "__main__":
    main()
