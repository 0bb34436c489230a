"""What exits per image save: `python -m benchmarks.exits --json F`.

Small Spikformers on distorted digits (T = 4, 25 epochs, five seeds), trained plainly and with the loss of each step
(`tet: 0`). Thresholds are calibrated on one half of the validation part; all figures are of the other half.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import report
from benchmarks.exits_search import compare_searches
from models import create_model, with_exits
from models.parts.backbone import SpikingModel
from models.registry import EXIT_RULES
from trainers import checkpoint, loop
from trainers.augment.images import make_augment
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Data, load_train
from trainers.exits.points import ExitPlan, halves
from trainers.exits.settings import ExitSettings
from trainers.fused.training import FusedJob, train_fused
from trainers.train import distorted

KEYS = ("step=4", "embed_dim=32", "num_heads=2", "val_fraction=0.3", "distort=true")
TRAININGS = {"plain": (), "tet": ("tet=0",)}
SEEDS, EPOCHS = 5, 25
POINTS = 24
GRID = np.linspace(0.1, 1.0, 361)
"""Shares of the synops of all steps."""
BATCHES = (1, 64)
ROUNDS = 7

Curve = tuple[list[float], list[float]]
"""Shares of the synops of all steps, ascending, and accuracies."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exits", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--searches", type=int, default=3, help="searches with exits, and as many without (0: none)")
    parser.add_argument("--folder", type=Path, help="keep the trained nets here, and use those that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        nets = train_nets(folder, arguments.seeds, arguments.epochs)
        details: dict[str, Any] = {name: measure([nets[name, s] for s in range(arguments.seeds)]) for name in TRAININGS}
        details["time"] = {name: times(*nets[name, 0]) for name in TRAININGS}
        figures: dict[str, Any] = {
            "synops_saved": details["tet"]["confidence"]["synops_saved"],
            "synops_saved_plain": details["plain"]["confidence"]["synops_saved"],
            "accuracy_gained": details["tet"]["confidence"]["accuracy_gained"],
        }
        if arguments.searches:
            details["searches"] = compare_searches(folder / "searches", arguments.searches)
            figures["hypervolume_ratio"] = details["searches"]["hypervolume_ratio"]
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


def measure(nets: Sequence[Net]) -> dict[str, Any]:
    """Returns the figures of each rule over the seeds, and the plain read-outs."""
    plain = [_plain(*net) for net in nets]
    found: dict[str, Any] = {
        "read_outs": [
            {key: mean(rows[t][key] for rows in plain) for key in ("accuracy", "synops", "spike_rate", "energy_mj")}
            for t in range(len(plain[0]))
        ]
    }
    for rule in EXIT_RULES:
        found[rule] = _figures(nets, plain, ExitSettings(POINTS), rule)
    found["confidence by step"] = _figures(nets, plain, ExitSettings(POINTS, by_step=True), "confidence")
    return found


def _evaluate(model: SpikingModel, config: TrainConfig, data: Data, plan: ExitPlan | None) -> loop.Evaluation:
    return loop.evaluate(model, data, make_augment(config, torch.device("cpu")), config, plan)


def _plain(model: SpikingModel, config: TrainConfig) -> list[dict[str, float]]:
    """Returns the read-outs on the half that exits are measured on."""
    data = validation(config)
    _, measured = halves(data.labels, config.split_seed)
    return _evaluate(model, config, data.take(measured.numpy()), None).read_outs


def _figures(
    nets: Sequence[Net], plain: Sequence[list[dict[str, float]]], settings: ExitSettings, rule: str
) -> dict[str, Any]:
    rows = [
        _evaluate(model, config, validation(config), ExitPlan(rule, settings, config.split_seed)).exits
        for model, config in nets
    ]
    pairs = list(zip(rows, plain, strict=True))
    accuracy = np.mean([np.interp(GRID, *_curve(*pair)) for pair in pairs], axis=0)
    start = max(_curve(*pair)[0][0] for pair in pairs)
    whole = mean(read_outs[-1]["accuracy"] for read_outs in plain)
    enough = GRID[(accuracy >= whole - 1e-9) & (start <= GRID)]
    early = [
        mean(
            float(np.interp(read_outs[t]["synops"] / read_outs[-1]["synops"], *_curve(points, read_outs)))
            - read_outs[t]["accuracy"]
            for points, read_outs in pairs
        )
        for t in range(1, len(plain[0]) - 1)
    ]
    kept = [(row, read_outs[-1]) for points, read_outs in pairs for row in points if row["exit"] == 1]
    gaps = [row["calibrated_accuracy"] - row["accuracy"] for points in rows for row in points]
    shifts = [_half_shift(*net) for net in nets]
    return {
        "synops_saved": float(1.0 - enough.min()) if len(enough) else 0.0,
        "accuracy_gained": mean(early),
        "kept": {
            "synops_saved": _spread([1.0 - row["synops"] / last["synops"] for row, last in kept]),
            "energy_saved": _spread([1.0 - row["energy_mj"] / last["energy_mj"] for row, last in kept]),
            "accuracy_change": _spread([row["accuracy"] - last["accuracy"] for row, last in kept]),
            "steps": _spread([row["steps"] for row, _ in kept]),
        },
        "halves": {"gap": mean(gaps), "gap_of_plain_read_out": mean(shifts)},
        "curve": {f"{share:.2f}": float(value) for share, value in zip(GRID[::20], accuracy[::20], strict=True)},
    }


def _half_shift(model: SpikingModel, config: TrainConfig) -> float:
    """Returns by how much the half for calibration is easier for the plain read-out of all steps."""
    data = validation(config)
    accuracies = [
        _evaluate(model, config, data.take(part.numpy()), None).metrics["accuracy"]
        for part in halves(data.labels, config.split_seed)
    ]
    return accuracies[0] - accuracies[1]


def _curve(points: Sequence[dict[str, Any]], read_outs: Sequence[dict[str, float]]) -> Curve:
    """Returns the exit points, with the read-outs after one and all steps as ends."""
    whole = read_outs[-1]["synops"]
    ends = [(row["synops"] / whole, row["accuracy"]) for row in (read_outs[0], read_outs[-1])]
    inner = [(row["synops"] / whole, row["accuracy"]) for row in points]
    ordered = sorted({*inner, *ends})
    return [share for share, _ in ordered], [accuracy for _, accuracy in ordered]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": mean(values), "standard_error": stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0}


def times(model: SpikingModel, config: TrainConfig) -> dict[str, Any]:
    """Returns the CPU time of a run of all steps over that with exits, at the point that keeps the accuracy."""
    data = validation(config)
    plan = ExitPlan("confidence", ExitSettings(1), config.split_seed)
    points = _evaluate(model, config, data, plan).exits
    exiting = with_exits(model, "confidence", points[0]["exit_threshold"] if points else 2.0)
    images = next(data.in_order(max(BATCHES) * 2))[0]
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


def _seconds(call: Callable[[torch.Tensor], Any], batches: Sequence[torch.Tensor]) -> float:
    started = time.process_time()
    for batch in batches:
        call(batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
