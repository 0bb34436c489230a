"""What exits per image save: `python -m benchmarks.exits --json F`.

Small Spikformers on 640 distorted digits (width 16, T = 4, 25 epochs, five seeds), trained plainly and with the loss of
each step (`tet: 0`). Thresholds are calibrated on one half of the validation part; all figures are of the other half.

- `synops_saved`: share of the synaptic operations of T = 4 that exits save at its accuracy, with `tet: 0`. Over the
  seeds, the mean accuracy is compared at equal shares of each net's synops.
- `accuracy_gained`: points gained over the plain read-outs after 2 and 3 steps at their synops, with `tet: 0`.
- `hypervolume_ratio`: `--searches N` runs N searches with exits and N without of equal budget. It is the ratio of their
  mean hypervolumes, the exit points of both counted.

`details` has both trainings, all rules, the gap between the halves, and the time of `with_exits`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import report
from benchmarks.exits_search import compare_searches
from models import create_model, with_exits
from models.cost.meter import Meter
from models.exits.rules import read_outs
from models.parts.backbone import SpikingModel
from models.registry import EXIT_RULES
from trainers import checkpoint, loop
from trainers.augment.images import distorted, make_augment
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Data, load_train
from trainers.exits.points import ExitPlan, exit_points, halves
from trainers.exits.settings import ExitSettings
from trainers.fused.training import FusedJob, train_fused

KEYS = ("step=4", "embed_dim=16", "num_heads=2", "val_fraction=0.3", "train_images=640", "distort=true")
TRAININGS = {"plain": (), "tet": ("tet=0",)}
SEEDS, EPOCHS = 5, 25
POINTS = 24
GRID = np.linspace(0.1, 1.0, 361)
"""Shares of the synops of all steps."""
BATCHES = (1, 64)
ROUNDS = 5

Curve = tuple[list[float], list[float]]
"""Shares of the synops of all steps, ascending, and accuracies."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exits", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--searches", type=int, default=3, help="searches with exits, and as many without (0: none)")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the fronts with and without exits")
    parser.add_argument("--folder", type=Path, help="keep the trained nets here, and use those that are there")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        nets = train_nets(folder, arguments.seeds, arguments.epochs)
        details: dict[str, Any] = {
            name: measure([record(*nets[name, s]) for s in range(arguments.seeds)]) for name in TRAININGS
        }
        details["time"] = {name: times(*nets[name, 0]) for name in TRAININGS}
        figures: dict[str, Any] = {
            "synops_saved": details["tet"]["confidence"]["synops_saved"],
            "synops_saved_plain": details["plain"]["confidence"]["synops_saved"],
            "accuracy_gained": details["tet"]["confidence"]["accuracy_gained"],
        }
        if arguments.searches:
            details["searches"] = compare_searches(folder / "searches", arguments.searches)
            figures["hypervolume_ratio"] = details["searches"]["hypervolume_ratio"]
    if arguments.figure is not None:
        draw(details, arguments.figure)
    report.write({**figures, "details": details, "machine": report.machine()}, arguments.json)


Net = tuple[SpikingModel, TrainConfig]


def train_nets(folder: Path, seeds: int, epochs: int) -> dict[tuple[str, int], Net]:
    """Returns the nets of each training and seed, all trained as one."""
    configs = {
        (name, seed): load(
            recipe_path("spikformer/digits"), overrides=[*KEYS, *keys, f"seed={seed}", f"epochs={epochs}"]
        )
        for name, keys in TRAININGS.items()
        for seed in range(seeds)
    }
    paths = {key: folder / f"{key[0]}-{key[1]}" for key in configs}
    jobs: dict[Any, FusedJob] = {key: FusedJob(config, paths[key]) for key, config in configs.items()}
    train_fused(jobs, lambda outcomes: ())
    nets: dict[tuple[str, int], Net] = {}
    for key, config in configs.items():
        model = create_model(config).eval()
        model.load_state_dict(checkpoint.load(checkpoint.generations(paths[key])[0])["model"])
        nets[key] = model, config
    return nets


def validation(config: TrainConfig) -> Data:
    """Returns the validation images."""
    return distorted(load_train(config)[1], config, config.split_seed)


@dataclass(frozen=True)
class Recorded:
    """One pass of a net over the validation part, and its plain read-outs on the half that exits are measured on."""

    means: Tensor
    labels: Tensor
    meter: Meter
    read_outs: list[dict[str, float]]
    split_seed: int

    def half_gap(self) -> float:
        """Returns by how much the half for calibration is easier for the read-out of all steps."""
        correct = (self.means[-1].argmax(1) == self.labels).double()
        calibration, measured = (float(correct[part].mean()) for part in halves(self.labels, self.split_seed))
        return 100.0 * (calibration - measured)


@torch.no_grad()
def record(model: SpikingModel, config: TrainConfig) -> Recorded:
    """Runs a net over its validation part."""
    data, augment = validation(config), make_augment(config, torch.device("cpu"))
    _, measured = halves(data.labels, config.split_seed)
    with Meter(model, by_image=True) as meter:
        outputs = [meter.forward_steps(augment.plain(images)) for images, _ in data.in_order(config.val_batch_size)]
    plain = loop.evaluate(model, data.take(measured.numpy()), augment, config).read_outs
    return Recorded(read_outs(torch.cat(outputs, 1)), data.labels, meter, plain, config.split_seed)


def measure(nets: Sequence[Recorded]) -> dict[str, Any]:
    """Returns the figures of each rule over the seeds, and the plain read-outs."""
    names = ("accuracy", "synops", "spike_rate", "energy_mj")
    steps = range(len(nets[0].read_outs))
    found: dict[str, Any] = {
        "read_outs": [{key: mean(net.read_outs[t][key] for net in nets) for key in names} for t in steps],
        "gap_of_the_halves": mean(net.half_gap() for net in nets),
    }
    for rule in EXIT_RULES:
        found[rule] = _figures(nets, ExitSettings(POINTS), rule)
    found["confidence by step"] = _figures(nets, ExitSettings(POINTS, by_step=True), "confidence")
    return found


def _figures(nets: Sequence[Recorded], settings: ExitSettings, rule: str) -> dict[str, Any]:
    rows = [exit_points(net.means, net.labels, net.meter, ExitPlan(rule, settings, net.split_seed)) for net in nets]
    pairs = [(points, net.read_outs) for points, net in zip(rows, nets, strict=True)]
    accuracy = np.mean([np.interp(GRID, *_curve(*pair)) for pair in pairs], axis=0)
    start = max(_curve(*pair)[0][0] for pair in pairs)
    whole = mean(plain[-1]["accuracy"] for _, plain in pairs)
    enough = GRID[(accuracy >= whole - 1e-9) & (start <= GRID)]
    early = [
        mean(
            float(np.interp(plain[t]["synops"] / plain[-1]["synops"], *_curve(points, plain))) - plain[t]["accuracy"]
            for points, plain in pairs
        )
        for t in range(1, len(pairs[0][1]) - 1)
    ]
    kept = [(row, plain[-1]) for points, plain in pairs for row in points if row["exit"] == 1]
    gaps = [row["calibrated_accuracy"] - row["accuracy"] for points in rows for row in points]
    return {
        "synops_saved": float(1.0 - enough.min()) if len(enough) else 0.0,
        "accuracy_gained": mean(early),
        "kept": {
            "nets": len(kept),
            "synops_saved": _spread([1.0 - row["synops"] / last["synops"] for row, last in kept]),
            "energy_saved": _spread([1.0 - row["energy_mj"] / last["energy_mj"] for row, last in kept]),
            "accuracy_change": _spread([row["accuracy"] - last["accuracy"] for row, last in kept]),
            "steps": _spread([row["steps"] for row, _ in kept]),
        },
        "gap": mean(gaps) if gaps else 0.0,
        "curve": {f"{share:.2f}": float(value) for share, value in zip(GRID[::8], accuracy[::8], strict=True)},
    }


def _curve(points: Sequence[dict[str, Any]], plain: Sequence[dict[str, float]]) -> Curve:
    """Returns the exit points, with the read-outs after one and all steps as ends."""
    whole = plain[-1]["synops"]
    ends = [(row["synops"] / whole, row["accuracy"]) for row in (plain[0], plain[-1])]
    inner = [(row["synops"] / whole, row["accuracy"]) for row in points]
    ordered = sorted({*inner, *ends})
    return [share for share, _ in ordered], [accuracy for _, accuracy in ordered]


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "standard_error": 0.0}
    return {"mean": mean(values), "standard_error": stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0}


def times(model: SpikingModel, config: TrainConfig) -> dict[str, Any]:
    """Returns the CPU time of a run of all steps over that with exits, at the point that keeps the accuracy."""
    data = validation(config)
    plan = ExitPlan("confidence", ExitSettings(1), config.split_seed)
    points = loop.evaluate(model, data, make_augment(config, torch.device("cpu")), config, plan).exits
    exiting = with_exits(model, "confidence", points[0]["exit_threshold"] if points else 2.0)
    images = next(data.in_order(max(BATCHES)))[0]
    x = make_augment(config, torch.device("cpu")).plain(images)
    found: dict[str, Any] = {"threshold": exiting.thresholds[0], "steps": float(exiting(x).steps.double().mean())}
    for size in BATCHES:
        batches = torch.split(x, size)
        with torch.no_grad():
            pairs = [(_seconds(model.forward_steps, batches), _seconds(exiting, batches)) for _ in range(ROUNDS)]
        found[f"batch_{size}"] = {
            "speed_up": median(whole / early for whole, early in pairs),
            "ms_per_image": 1000 * median(early for _, early in pairs) / len(x),
        }
    return found


def draw(details: Mapping[str, Any], path: Path) -> None:
    """Draws accuracy against the share of the synops of all steps: read-outs, and exits by confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, color in zip(TRAININGS, ("#777777", "#1f6fb2"), strict=True):
        found = details[name]
        whole = found["read_outs"][-1]["synops"]
        points = [(row["synops"] / whole, row["accuracy"]) for row in found["read_outs"]]
        curve = [(float(share), value) for share, value in found["confidence"]["curve"].items()]
        inside = [pair for pair in curve if pair[0] >= points[0][0]]
        label = {"plain": "plain training", "tet": "trained with tet: 0"}[name]
        axes.plot(
            *zip(*points, strict=True), "o", color=color, label=f"{label}: read-outs after 1 to {len(points)} steps"
        )
        axes.plot(*zip(*inside, strict=True), "-", color=color, label=f"{label}: exits by confidence")
    axes.set_xlabel("synaptic operations, share of those of all steps")
    axes.set_ylabel("accuracy (%), images not used for calibration")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _seconds(call: Callable[[torch.Tensor], Any], batches: Sequence[torch.Tensor]) -> float:
    started = time.process_time()
    for batch in batches:
        call(batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
