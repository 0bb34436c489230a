"""Overhead of measuring: `python -m benchmarks.meter --json FILE`.

`train_step_ratio`: mean training step of the first 150 batches with their health checks, over a step without checks;
later steps have no overhead. `evaluation_ratio`: an evaluation pass with the meter, over one without. Process CPU time
on one thread, variants alternately, medians of the paired ratios; at the top level, medians over the sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import create_model
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from trainers.diagnostics.health import EARLY_BATCHES, Health
from trainers.diagnostics.probe import Probe

SIZES = {"8x8": (8, 1, 64), "16x16": (16, 2, 64), "32x32": (32, 4, 16)}
"""Pixels per side, pixels per token side, images per batch; all have 64 tokens."""
KEYS = {"model": "spikformer_cifar", "in_channels": 3, "num_classes": 10}
KEYS |= {"embed_dim": 64, "num_heads": 4, "depths": 2, "step": 4}
EVALUATED_BATCHES = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.meter", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each variant")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = {name: measure(*size, arguments.repeats) for name, size in SIZES.items()}
    figures: dict[str, Any] = {
        key: statistics.median(ratios[key] for ratios in sizes.values())
        for key in ("train_step_ratio", "evaluation_ratio")
    }
    figures |= {"threads": 1, "repeats": arguments.repeats, "torch": torch.__version__, "sizes": sizes}
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def measure(side: int, patch: int, batch: int, repeats: int) -> dict[str, float]:
    """Returns the ratios and the measured seconds at one size."""
    torch.manual_seed(0)
    model = create_model({**KEYS, "img_size": side, "patch_size": patch})
    x, labels = torch.randn(batch, 3, side, side), torch.randint(10, (batch,))
    step = training_step(model, x, labels)
    probe = Probe(model, Health())
    bare_s, checked_s = interleaved([lambda: step(None), lambda: step(probe)], repeats)
    check = statistics.median(b / a for a, b in zip(bare_s, checked_s, strict=True))
    plain_s, metered_s = interleaved([lambda: evaluation(model, x, False), lambda: evaluation(model, x, True)], repeats)
    return {
        "train_step_ratio": 1.0 + (check - 1.0) * len(EARLY_BATCHES) / max(EARLY_BATCHES),
        "checked_step_ratio": check,
        "evaluation_ratio": statistics.median(b / a for a, b in zip(plain_s, metered_s, strict=True)),
        "train_step_s": statistics.median(bare_s),
        "evaluation_s": statistics.median(plain_s),
    }


def training_step(model: SpikingModel, x: Tensor, labels: Tensor) -> Callable[[Probe | None], None]:
    """Returns a training step, with a health check if a probe is given; failures of checks are ignored."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step(probe: Probe | None) -> None:
        model.train()
        if probe is not None:
            probe.health.last_faults = {}
        with nullcontext() if probe is None else probe.step(min(EARLY_BATCHES), max(EARLY_BATCHES)):
            optimizer.zero_grad(set_to_none=True)
            loss: Any = torch.nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()

    return step


@torch.no_grad()
def evaluation(model: SpikingModel, x: Tensor, is_metered: bool) -> None:
    """Evaluates some batches; with a meter, also reads the totals of every read-out."""
    model.eval()
    if not is_metered:
        for _ in range(EVALUATED_BATCHES):
            model.forward_steps(x)
        return
    with Meter(model) as meter:
        for _ in range(EVALUATED_BATCHES):
            meter.forward_steps(x)
    for read_step in range(1, model.config.step + 1):
        meter.totals(read_step)
    meter.by_layer(model.config.step)


def interleaved(variants: Sequence[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Returns the CPU seconds of each variant, run alternately after one warm-up run."""
    seconds: list[list[float]] = [[] for _ in variants]
    for repeat in range(repeats + 1):
        for variant, taken in zip(variants, seconds, strict=True):
            started = time.process_time()
            variant()
            if repeat:
                taken.append(time.process_time() - started)
    return seconds


if __name__ == "__main__":
    main()
