"""What exits per image save: `python -m benchmarks.exits --json F`.

Spikformers on all distorted digits (width 32, T = 4, 25 epochs, five seeds), trained plainly and with the loss of each
step (`tet: 0`), or with `--nets` the nets of train files whose `initial_checkpoint` are their weights. Thresholds are
calibrated on one half of the validation part; all figures are means over `SPLITS` such halves, of the other one.

- `synops_saved`: share of the synaptic operations of T = 4 that exits save at its accuracy, with `tet: 0`. Over the
  nets, the mean accuracy is compared at equal shares of each net's synops.
- `accuracy_gained`: points gained over the plain read-outs after 2 and 3 steps at their synops, with `tet: 0`.
- `hypervolume_ratio`: `--searches N` runs N searches with exits and N without of equal budget. It is the ratio of their
  mean hypervolumes, the exit points of both counted.

`details` has both trainings, all rules, the gap between the halves, and the time of `with_exits`, also of a large net.
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
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks import report
from benchmarks.exits_search import compare_searches
from models import create_model, with_exits
from models.cost.meter import Meter
from models.exits.rules import read_outs, rule_of
from models.exits.stepwise import WithExits
from models.parts.backbone import SpikingModel
from models.registry import EXIT_RULES
from trainers import checkpoint
from trainers.augment.images import distorted, make_augment
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Data, load_train
from trainers.exits.points import ExitPlan, exit_points, halves
from trainers.exits.settings import ExitSettings
from trainers.fused.training import FusedJob, train_fused
from trainers.optimization.initial_weights import load_initial_weights

KEYS = ("step=4", "embed_dim=32", "num_heads=2", "val_fraction=0.3", "distort=true", "batch_size=32", "lr=0.01")
TRAININGS = {"plain": (), "tet": ("tet=0",)}
SEEDS, EPOCHS = 5, 25
POINTS = 24
RULE = "msprt"
"""The rule of the figures, the picture and the times."""
SPLITS = 4
SAVED_WITHIN = (0.0, 0.5, 1.0)
"""Points of accuracy that may be lost."""
LARGE = ("embed_dim=256", "num_heads=8", "threshold=0.4")
"""The net of `times_of_large`: the CIFAR-10 recipe, untrained."""
LARGE_IMAGES = 8
GRID = np.linspace(0.1, 1.0, 361)
"""Shares of the synops of all steps."""
BATCHES = (1, 64)
ROUNDS = 5

Curve = tuple[list[float], list[float]]
"""Shares of the synops of all steps, ascending, and accuracies."""
Row = dict[str, float]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exits", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--searches", type=int, default=3, help="searches with exits, and as many without (0: none)")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the fronts with and without exits")
    parser.add_argument("--folder", type=Path, help="keep the trained nets here, and use those that are there")
    parser.add_argument("--nets", nargs="+", metavar="YML", help="measure the weights of these train files instead")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.nets:
        nets = [trained_net(path) for path in arguments.nets]
        records = [record(*net) for net in nets]
        details = {"nets": measure(records), "time": {"nets": times(*nets[0], records[0])}}
        figures: dict[str, Any] = {"synops_saved": details["nets"][RULE]["synops_saved"]["0.0"]}
    else:
        figures, details = _digits(arguments)
    details["time"]["large"] = times_of_large()
    if arguments.figure is not None:
        draw(details, arguments.figure)
    report.write({**figures, "details": details, "machine": report.machine()}, arguments.json)


def _digits(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the figures and the details of nets that are trained here."""
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        nets = train_nets(folder, arguments.seeds, arguments.epochs)
        records = {key: record(*net) for key, net in nets.items()}
        details: dict[str, Any] = {
            name: measure([records[name, s] for s in range(arguments.seeds)]) for name in TRAININGS
        }
        details["time"] = {name: times(*nets[name, 0], records[name, 0]) for name in TRAININGS}
        figures: dict[str, Any] = {
            "synops_saved": details["tet"][RULE]["synops_saved"]["0.0"],
            "synops_saved_plain": details["plain"][RULE]["synops_saved"]["0.0"],
            "accuracy_gained": details["tet"][RULE]["accuracy_gained"],
        }
        if arguments.searches:
            details["searches"] = compare_searches(folder / "searches", arguments.searches)
            figures["hypervolume_ratio"] = details["searches"]["hypervolume_ratio"]
    return figures, details


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


def trained_net(path: str) -> Net:
    """Returns the net of a train file, with the weights of its `initial_checkpoint`."""
    config = load(path)
    model = create_model(config).eval()
    load_initial_weights(model, config)
    return model, config


@dataclass(frozen=True)
class Recorded:
    """One pass of a net over the validation part."""

    means: Tensor
    labels: Tensor
    meter: Meter
    split_seed: int

    def splits(self) -> range:
        """Returns the seeds of the halves."""
        return range(self.split_seed, self.split_seed + SPLITS)

    def read_outs(self, split_seed: int) -> list[Row]:
        """Returns accuracy and synops of the plain read-outs on the half that exits are measured on."""
        index = halves(self.labels, split_seed)[1]
        every = torch.ones_like(index)
        return [
            {
                "accuracy": 100.0 * float((means[index].argmax(1) == self.labels[index]).double().mean()),
                "synops": self.meter.exit_totals(every * step, index)["synops"],
            }
            for step, means in enumerate(self.means, start=1)
        ]

    def half_gap(self, split_seed: int) -> float:
        """Returns by how much the half for calibration is easier for the read-out of all steps."""
        correct = (self.means[-1].argmax(1) == self.labels).double()
        calibration, measured = (float(correct[part].mean()) for part in halves(self.labels, split_seed))
        return 100.0 * (calibration - measured)


@torch.no_grad()
def record(model: SpikingModel, config: TrainConfig) -> Recorded:
    """Runs a net over its validation part."""
    data, augment = validation(config), make_augment(config, torch.device("cpu"))
    with Meter(model, by_image=True) as meter:
        outputs = [meter.forward_steps(augment.plain(images)) for images, _ in data.in_order(config.val_batch_size)]
    return Recorded(read_outs(torch.cat(outputs, 1)), data.labels, meter, config.split_seed)


def measure(nets: Sequence[Recorded]) -> dict[str, Any]:
    """Returns the figures of each rule over the nets, and the plain read-outs."""
    plain = [[net.read_outs(seed) for seed in net.splits()] for net in nets]
    found: dict[str, Any] = {
        "read_outs": [
            _mean_row([of_net[t] for of_split in plain for of_net in of_split]) for t in range(len(plain[0][0]))
        ],
        "gap_of_the_halves": mean(net.half_gap(seed) for net in nets for seed in net.splits()),
    }
    for rule in EXIT_RULES:
        found[rule] = _figures(nets, plain, ExitSettings(POINTS), rule)
    found["confidence by step"] = _figures(nets, plain, ExitSettings(POINTS, by_step=True), "confidence")
    return found


def _mean_row(rows: Sequence[Row]) -> Row:
    return {key: mean(row[key] for row in rows) for key in rows[0]}


def _figures(
    nets: Sequence[Recorded], plain: Sequence[Sequence[list[Row]]], settings: ExitSettings, rule: str
) -> dict[str, Any]:
    """Returns the figures of a rule; `plain` has the read-outs by net and split."""
    exits = [
        [exit_points(net.means, net.labels, net.meter, ExitPlan(rule, settings, seed)) for seed in net.splits()]
        for net in nets
    ]
    pairs = [pair for of_net in zip(exits, plain, strict=True) for pair in zip(*of_net, strict=True)]
    accuracy = np.mean([np.interp(GRID, *_curve(*pair)) for pair in pairs], axis=0)
    start = max(_curve(*pair)[0][0] for pair in pairs)
    whole = mean(read[-1]["accuracy"] for _, read in pairs)
    early = [
        float(np.interp(read[t]["synops"] / read[-1]["synops"], *_curve(points, read))) - read[t]["accuracy"]
        for points, read in pairs
        for t in range(1, len(read) - 1)
    ]
    kept = [_kept(*of_net) for of_net in zip(exits, plain, strict=True)]
    gaps = [row["calibrated_accuracy"] - row["accuracy"] for points, _ in pairs for row in points]
    return {
        "synops_saved": {str(loss): _saved(accuracy, start, whole - loss) for loss in SAVED_WITHIN},
        "accuracy_gained": mean(early),
        "kept": {
            key: _spread([row[key] for row in kept if row]) for key in ("synops_saved", "accuracy_change", "steps")
        },
        "gap": mean(gaps) if gaps else 0.0,
        "curve": {f"{share:.2f}": float(value) for share, value in zip(GRID[::8], accuracy[::8], strict=True)},
    }


def _saved(accuracy: Any, start: float, enough: float) -> float:
    """Returns the share of the synops that is saved at the first share with enough accuracy."""
    shares = GRID[(accuracy >= enough - 1e-9) & (start <= GRID)]
    return float(1.0 - shares.min()) if len(shares) else 0.0


def _kept(exits: Sequence[list[dict[str, Any]]], plain: Sequence[list[Row]]) -> Row:
    """Returns the means over a net's splits of what exit point 1 saves and changes; empty if it has none."""
    rows = [
        {
            "synops_saved": 1.0 - row["synops"] / read[-1]["synops"],
            "accuracy_change": row["accuracy"] - read[-1]["accuracy"],
            "steps": row["steps"],
        }
        for points, read in zip(exits, plain, strict=True)
        for row in points
        if row["exit"] == 1
    ]
    return _mean_row(rows) if rows else {}


def _curve(points: Sequence[dict[str, Any]], plain: Sequence[Row]) -> Curve:
    """Returns the exit points, with the read-outs after one and all steps as ends."""
    whole = plain[-1]["synops"]
    ends = [(row["synops"] / whole, row["accuracy"]) for row in (plain[0], plain[-1])]
    inner = [(row["synops"] / whole, row["accuracy"]) for row in points]
    ordered = sorted({*inner, *ends})
    return [share for share, _ in ordered], [accuracy for _, accuracy in ordered]


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"nets": 0, "mean": 0.0, "standard_error": 0.0}
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"nets": len(values), "mean": mean(values), "standard_error": error}


def times(model: SpikingModel, config: TrainConfig, net: Recorded) -> dict[str, Any]:
    """Returns the CPU time of a run of all steps over that with exits, at the point that keeps the accuracy."""
    plan = ExitPlan(RULE, ExitSettings(1), net.split_seed)
    points = exit_points(net.means, net.labels, net.meter, plan)
    exiting = with_exits(model, RULE, points[0]["exit_threshold"] if points else 2.0)
    images = next(validation(config).in_order(max(BATCHES)))[0]
    return _times(exiting, make_augment(config, torch.device("cpu")).plain(images), ROUNDS)


@torch.no_grad()
def times_of_large() -> dict[str, Any]:
    """Returns the same of a larger net, untrained, with thresholds by step at which half of the images left exit."""
    config = load(recipe_path("spikformer/cifar10"), overrides=LARGE)
    torch.manual_seed(0)
    model, x = create_model(config), torch.rand(LARGE_IMAGES, config.in_channels, config.img_size, config.img_size)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = 1.0  # the statistics of these images, so that all layers spike
    model.train()(x)
    model.eval()
    certainty = rule_of(RULE).certainty(read_outs(model.forward_steps(x)))
    left, thresholds = torch.ones(len(x), dtype=torch.bool), []
    for now in certainty[:-1]:
        thresholds.append(float(now[left].median()) if left.any() else 2.0)
        left &= now < thresholds[-1]
    return _times(with_exits(model, RULE, thresholds), x, 1)


def _times(exiting: WithExits, x: Tensor, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"thresholds": exiting.thresholds, "steps": float(exiting(x).steps.double().mean())}
    for size in BATCHES:
        batches = torch.split(x, size)
        with torch.no_grad():
            pairs = [
                (_seconds(exiting.model.forward_steps, batches), _seconds(exiting, batches)) for _ in range(rounds)
            ]
        found[f"batch_{size}"] = {
            "speed_up": median(whole / early for whole, early in pairs),
            "ms_per_image": 1000 * median(early for _, early in pairs) / len(x),
        }
    return found


def draw(details: Mapping[str, Any], path: Path) -> None:
    """Draws accuracy against the share of the synops of all steps: read-outs, and exits by two rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    labels = {"plain": "plain training: ", "tet": "trained with tet: 0: ", "nets": ""}
    kinds = [kind for kind in labels if kind in details]
    for kind, color in zip(kinds, ("#777777", "#1f6fb2"), strict=False):
        found, label = details[kind], labels[kind]
        whole = found["read_outs"][-1]["synops"]
        points = [(row["synops"] / whole, row["accuracy"]) for row in found["read_outs"]]
        axes.plot(
            *zip(*points, strict=True), "o", color=color, label=f"{label}read-outs after 1 to {len(points)} steps"
        )
        for rule, style in (("confidence", "--"), (RULE, "-")):
            curve = [(float(share), value) for share, value in found[rule]["curve"].items()]
            inside = [pair for pair in curve if pair[0] >= points[0][0]]
            axes.plot(*zip(*inside, strict=True), style, color=color, label=f"{label}exits by {rule}")
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
