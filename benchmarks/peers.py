"""The trainer against a plain PyTorch training of the same small Spikformer: `python -m benchmarks.peers --json F`.

The peer (`benchmarks.peer_training`) is written with SpikingJelly's parts, as in its tutorial. Both train on the same
images with the same recipe, `spikformer/cifar10_small` with T = 2, with the seeds 0, 1, ...; nothing else is shared,
initial weights and the order of the images included.

`accuracy_difference` (percent, ours - peer) of the means over the seeds has the `standard_error`. `step_vs_peer` is the
peer's CPU seconds for a training step over ours: both run in turn in one process on one thread, and the figure is the
median of the ratios within a round. `step_vs_shipped` is the same for the Spikformer that SpikingJelly ships, which
pools before its neurons, against ours with such a stem.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import sqrt
from statistics import fmean, median, stdev
from typing import Any

import torch
from spikingjelly.activation_based.model.spikformer import Spikformer as Shipped
from torch import Tensor, nn

from benchmarks import peer_training, report
from benchmarks.train_step import in_turn
from trainers import loop
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Split, load_train
from trainers.optimization.gpu_step import batch_statistics, untracked_norms, without_biases
from trainers.train import Training

MEASURED = ("accuracy", "loss", "spike_rate", "images_per_cpu_s")
NET: dict[str, Any] = {"embed_dim": 64, "depths": 1, "num_heads": 4, "step": 2, "read_step": 2}
NET |= {"lr": 0.005, "device": "cpu", "threads": 1}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--dataset", choices=("cifar10", "digits"), default="cifar10", help="digits: a quick form")
    parser.add_argument("--data-dir", default="data", help="folder of CIFAR-10 (default data)")
    parser.add_argument("--images", type=int, default=4000, help="training images (default 4000; digits has 1150)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each training (default 6)")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each side, at least 2 (default 5)")
    parser.add_argument("--rounds", type=int, default=30, help="timed steps of each side (default 30)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = min(arguments.images, 1150) if arguments.dataset == "digits" else arguments.images
    config = make_config(arguments.dataset, data_dir=arguments.data_dir, train_images=images, epochs=arguments.epochs)
    figures = compare_steps(config, arguments.rounds) | compare_trainings(config, max(2, arguments.seeds))
    sizes = {"dataset": arguments.dataset, "images": images, "epochs": config.epochs, "batch_size": config.batch_size}
    report.write({**figures, **sizes, "machine": report.machine()}, arguments.json)


def make_config(dataset: str, **keys: Any) -> TrainConfig:
    """Returns the train file of both sides; of all augmentations it has random flips only, and for digits none."""
    name, fixed = ("cifar10_small", {}) if dataset == "cifar10" else (dataset, {"distort": False})
    recipe = load(recipe_path(f"spikformer/{name}"))
    return TrainConfig.model_validate({**recipe.dump(), **fixed, **NET, **keys})


def compare_trainings(config: TrainConfig, seeds: int) -> dict[str, Any]:
    """Returns the difference of the mean accuracies, its standard error, and mean, spread and values of each side."""
    first, second = load_train(config)
    assert isinstance(first, Split)
    assert isinstance(second, Split)
    configs = [config.model_copy(update={"seed": seed}) for seed in range(seeds)]
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for one in configs:
        runs["ours"].append(train_ours(one, (first, second)))
        runs["peer"].append(peer_training.train(one, (first, second)))
        print({side: rows[-1] for side, rows in runs.items()}, flush=True)
    sides = {side: {key: summary([row[key] for row in rows]) for key in MEASURED} for side, rows in runs.items()}
    ours, peer = sides["ours"]["accuracy"], sides["peer"]["accuracy"]
    return {
        "accuracy_difference": ours["mean"] - peer["mean"],
        "standard_error": sqrt((ours["stdev"] ** 2 + peer["stdev"] ** 2) / seeds),
        **sides,
    }


def train_ours(config: TrainConfig, parts: tuple[Split, Split]) -> dict[str, float]:
    """Returns what `peer_training.train` does, of the trainer, which here evaluates after its last epoch only."""
    training = Training(config, parts=parts)
    seconds, speed = 0.0, dict[str, float]()
    for epoch in range(config.epochs):
        training.start_epoch(epoch)
        started = time.process_time()
        speed = loop.train_epoch(training.learner, training.data, config, None, training.probe.step)
        seconds += time.process_time() - started
    metrics = training.evaluate(config.epochs - 1, speed).metrics
    trained = config.epochs * (len(parts[0]) // config.batch_size) * config.batch_size
    return {key: metrics[key] for key in MEASURED[:3]} | {"images_per_cpu_s": trained / seconds}


def summary(values: list[float]) -> dict[str, Any]:
    return {"mean": fmean(values), "stdev": stdev(values), "values": values}


def compare_steps(config: TrainConfig, rounds: int) -> dict[str, Any]:
    """Returns the ratios of the seconds of a training step, and the images per CPU second of each variant."""
    x = torch.randn(config.batch_size, config.in_channels, config.img_size, config.img_size)
    labels = torch.randint(config.num_classes, (len(x),))
    pool_first = config.model_copy(update={"embed_layer": "SPS_CML"})
    assert config.patch_size in (2, 4)
    with ExitStack() as stack:
        steps = {"ours": our_step(config, stack), "peer": peer_step(peer_training.Spikformer(config), config)}
        if config.patch_size == 4:  # the shipped net has no smaller patches
            steps |= {"ours_pool_first": our_step(pool_first, stack), "shipped": peer_step(shipped(config), config)}
        calls: dict[str, Callable[[], object]] = {name: _on(step, x, labels) for name, step in steps.items()}
        seconds = in_turn(calls, rounds, time.process_time)
    speeds = {name: config.batch_size / median(taken) for name, taken in seconds.items()}
    ratios = {"step_vs_peer": _ratio(seconds, "peer", "ours")}
    if "shipped" in seconds:
        ratios["step_vs_shipped"] = _ratio(seconds, "shipped", "ours_pool_first")
    return {**ratios, "step_images_per_cpu_s": speeds}


def _on(step: Callable[[Tensor, Tensor], Tensor], x: Tensor, labels: Tensor) -> Callable[[], object]:
    return lambda: step(x, labels)


def _ratio(seconds: dict[str, list[float]], slower: str, faster: str) -> float:
    return median(a / b for a, b in zip(seconds[slower], seconds[faster], strict=True))


def our_step(config: TrainConfig, stack: ExitStack) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the trainer's step on a batch that is augmented already, as in its epochs until the stack closes."""
    images = torch.zeros(config.batch_size, config.in_channels, config.img_size, config.img_size, dtype=torch.uint8)
    split = Split(images, torch.zeros(config.batch_size, dtype=torch.int64))
    learner = Training(config, parts=(split, split)).learner
    learner.model.train()
    stack.enter_context(batch_statistics(untracked_norms(learner.model)))
    stack.enter_context(without_biases(learner.left_out))
    return lambda x, labels: loop.update(learner, x, labels, config)


def peer_step(model: nn.Module, config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor]:
    model.train()
    return peer_training.make_step(model, peer_training.make_optimizer(model, config), config.smoothing)


def shipped(config: TrainConfig) -> nn.Module:
    """Returns the Spikformer of SpikingJelly's model zoo, with logits [B, K]."""
    net = Shipped(
        config.step, config.in_channels, config.img_size, config.img_size, config.patch_size, config.num_classes,
        config.embed_dim, config.num_heads, config.mlp_ratio, config.depths,
    )  # fmt: skip
    return nn.Sequential(net, _StepMean())


class _StepMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


if __name__ == "__main__":
    main()
