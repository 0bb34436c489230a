"""Do models on a chip's operations behave as trained? `python -m benchmarks.chip --json F`.

Six small nets are trained on digits (the DVS model on events made of them), one of each family, and lowered to graphs:

- `spikes_differ`: outputs of neurons, over all nets, images and steps, that are not the model's in the float64 graph.
- `synops_differ`: synaptic operations counted by the executor that the meter does not count, or the reverse, as a sum
  over all layers.
- `int8_points_lost`: percentage points of accuracy that weights of 8 bits cost, without a fine-tuning, on the whole
  validation part of the net that loses most. Negative if all gain.
- `int4_points_lost`: the same of weights of 4 bits after a quantised fine-tuning (`quant_bits: 4`) of 5 epochs, at a
  tenth of the learning rate, in the mean over 3 seeds. The floats that they are compared with are the better of the net
  and of the same net after as many further epochs.

`details` has each net's accuracy, spikes and operations per image, and `times`: CPU seconds of the executor and of the
model for one image. With `--data-dir` it has both for one CIFAR-10 image (`cifar`) of Spikformer 4-384, untrained, with
batch norms set to 64 images.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from models import create_model
from models.chip import dense
from models.chip.agreement import compare
from models.chip.executor import Executor
from models.chip.graph import Graph
from models.chip.lowering import double, frames, lower
from models.chip.quantize import Precision, quantize
from models.parts.backbone import SpikingModel
from trainers.augment.images import distorted, make_augment
from trainers.checkpoint import generations
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Data, load_train
from trainers.measurement.integers import integer_accuracies
from trainers.train import train

RECIPE = "spikformer/digits"
SHARED = ("distort=false", "embed_dim=32", "num_heads=2", "lr=0.01")
PYRAMID = ("patch_size=4", "depths=[1, 1, 1]", "embed_dim=[16, 32, 64]", "mlp_ratio=2")
NETS: dict[str, tuple[str, ...]] = {
    "spikformer": SHARED,
    "sdt": ("model=sdt_cifar", *SHARED),
    "qkformer": ("model=qkformer_cifar", *SHARED, *PYRAMID),
    "spikingresformer": ("model=spikingresformer_cifar", *SHARED, *PYRAMID),
    "sew_resnet": ("model=sew_resnet18", "depths=[1, 1, 1, 1]", "distort=false", "lr=0.002"),
    "sdt_dvs": (
        "model=sdt_dvs",
        "dataset=digits_dvs",
        "img_size=16",
        "patch_size=4",
        "distort=false",
        *SHARED,
        "step=4",
    ),
}
"""Keys of each net that differ from the recipe."""
EPOCHS = 12
IMAGES = 100
CIFAR_IMAGES = 64
ROUNDS = 5
BATCH, DRIFT_IMAGES = 50, 20
TUNING: dict[str, Any] = {"epochs": 5, "warmup_epochs": 0, "cooldown_epochs": 0}
TUNING_RATE = 0.1
"""Of the learning rate of the training before."""
TUNING_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Net:
    """A trained net, its graph in float64, and its validation images as the model reads them."""

    model: SpikingModel
    config: TrainConfig
    graph: Graph
    images: Tensor
    labels: Tensor
    folder: Path | None = None
    """Its checkpoints."""


Nets = dict[str, Net]
Figures = tuple[dict[str, float], dict[str, Any]]
"""Figures for the top level, and details."""


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chip", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=IMAGES, help="validation images of each net")
    parser.add_argument("--folder", type=Path, help="keep the trained nets here, and use those that are there")
    parser.add_argument("--data-dir", help="folder of CIFAR-10, for the time of one of its images")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    details: dict[str, Any] = {}
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        nets = {name: train_net(name, folder / name, arguments.epochs, arguments.images) for name in arguments.nets}
        for part in arguments.parts:
            top, details[part] = PARTS[part](nets)
            figures |= top
    if arguments.data_dir is not None:
        net = cifar_net(arguments.data_dir)
        details["cifar"] = agreed(net) | timed(net.model, net.graph, net.images[0])
    report.write({**figures, "details": details, "machine": report.machine()}, arguments.json)


def train_net(name: str, folder: Path, epochs: int, images: int) -> Net:
    """Returns a net trained for some epochs, or the one in the folder, with images of its validation part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys of the recipe that a family does not read
        config = load(recipe_path(RECIPE), overrides=[*NETS[name], f"epochs={epochs}"])
    model = train(config, folder=folder).eval()
    validation = validation_of(config).take(np.arange(images))
    plain = make_augment(config, torch.device("cpu")).plain
    read = torch.cat([plain(batch) for batch, _ in validation.in_order(config.val_batch_size)])
    return Net(model, config, lower(model, read[0]), read, validation.labels, folder)


def validation_of(config: TrainConfig) -> Data:
    """Returns the validation part of a net's data."""
    return distorted(load_train(config)[1], config, config.split_seed)


def accuracy(net: Net, logits: Tensor) -> float:
    """Returns the percentage of a net's images that logits [M, K] classify right."""
    return 100.0 * float((logits.argmax(1) == net.labels).double().mean())


def agreement(nets: Nets) -> Figures:
    """Returns how the float64 graphs agree with the models, and their spikes and operations per image."""
    rows = {name: scored(net) | agreed(net) for name, net in nets.items()}
    keys = ("spikes_differ", "synops_differ")
    return {key: sum(row[key] for row in rows.values()) for key in keys}, rows


def scored(net: Net) -> dict[str, float]:
    """Returns the accuracy of the trained float32 model, and how many of its answers are not those in float64."""
    with torch.no_grad():
        logits = net.model(net.images)
        exact = double(net.model)(net.images.double())
    return {
        "accuracy": accuracy(net, logits),
        "float32_answers_differ": int((logits.argmax(1) != exact.argmax(1)).sum()),
    }


def agreed(net: Net) -> dict[str, float]:
    """Returns how a graph agrees with its model, and spikes and operations per image."""
    found = compare(net.model, net.graph, net.images)
    return {
        "images": found.images,
        "layers": len(found.layers),
        "outputs": sum(layer.outputs for layer in found.layers.values()),
        "spikes": found.spikes / found.images,
        "synops": found.synops / found.images,
        "spikes_differ": found.spikes_differ,
        "synops_differ": found.synops_differ,
        "answers_differ": found.answers_differ,
        "logits_differ": found.logits_differ,
    }


def integers(nets: Nets) -> Figures:
    """Returns the accuracy that nets lose in integers, on whole validation parts, and their drift by layer."""
    rows: dict[str, dict[str, Any]] = {}
    for name, net in nets.items():
        data = validation_of(net.config)
        whole, in_integers = accuracy_of(net.model, net.config, data), integer_accuracy(net.model, net.config, data, 8)
        rows[name] = {"images": len(data), "accuracy": whole, "accuracy_int8": in_integers,
                      "points_lost": whole - in_integers, "drift": drift(net)}  # fmt: skip
    return {"int8_points_lost": max((row["points_lost"] for row in rows.values()), default=0.0)}, rows


def accuracy_of(model: SpikingModel, config: TrainConfig, data: Data) -> float:
    """Returns the accuracy of a model on a part of its data, in percent."""
    plain = make_augment(config, torch.device("cpu")).plain
    with torch.no_grad():
        hits = sum(int((model(plain(x)).argmax(1) == y).sum()) for x, y in data.in_order(BATCH))
    return 100.0 * hits / len(data)


def integer_accuracy(model: SpikingModel, config: TrainConfig, data: Data, bits: int) -> float:
    """Returns that of the model as integers, with weights of these bits."""
    augment = make_augment(config, torch.device("cpu"))
    return integer_accuracies(model, data, augment, config, bits=bits)[config.read_step - 1]


def fine_tuning(nets: Nets) -> Figures:
    """Returns the accuracy that nets lose with weights of 4 bits, before and after a quantised fine-tuning."""
    rows = {name: tuned(net) for name, net in nets.items() if net.folder is not None}
    return {"int4_points_lost": max((row["points_lost"] for row in rows.values()), default=0.0)}, rows


def tuned(net: Net) -> dict[str, Any]:
    """Returns the accuracies of a net in floats and with weights of 4 bits, before and after fine-tuning."""
    assert net.folder is not None
    keys = {**TUNING, "lr": TUNING_RATE * net.config.lr, "initial_checkpoint": str(generations(net.folder)[0])}
    config, data = net.config.model_copy(update=keys), validation_of(net.config)
    floats = accuracy_of(net.model, net.config, data)
    further = accuracy_of(train(config).eval(), config, data)
    found = []
    for seed in TUNING_SEEDS:
        quantised = config.model_copy(update={"quant_bits": 4, "seed": seed})
        found.append(integer_accuracy(train(quantised).eval(), quantised, data, 4))
    return {
        "accuracy": floats,
        "accuracy_further": further,
        "accuracy_int4_before": integer_accuracy(net.model, net.config, data, 4),
        "accuracy_int4": found,
        "points_lost": max(floats, further) - mean(found),
    }


def drift(net: Net) -> dict[str, float]:
    """Returns the share of outputs that differ with weights of 8 bits, in percent, of each layer of neurons."""
    images = net.images[:DRIFT_IMAGES]
    inputs = np.stack([frames(net.model, image) for image in images])
    exact, found = (dense.run(graph, inputs).spikes for graph in
                    (net.graph, quantize(net.graph, Precision(), net.config.input_range())))  # fmt: skip
    return {name: 100.0 * float((found[name] != spikes).mean()) for name, spikes in exact.items()}


def times(nets: Nets) -> Figures:
    """Returns the CPU seconds and the additions of an image of each net."""
    return {}, {name: timed(net.model, net.graph, net.images[0]) for name, net in nets.items()}


def cifar_net(data_dir: str) -> Net:
    """Returns an untrained Spikformer of the published size, with batch norms set to images of CIFAR-10."""
    config = load(recipe_path("spikformer/cifar10"), overrides=[f"data_dir={data_dir}"])
    data = load_train(config)[0].take(np.arange(CIFAR_IMAGES))
    torch.manual_seed(config.seed)
    model = create_model(config)
    images = torch.cat([make_augment(config, torch.device("cpu")).plain(x) for x, _ in data.in_order(CIFAR_IMAGES)])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
    return Net(model.eval(), config, lower(model, images[0]), images[:1], data.labels[:1])


def timed(model: SpikingModel, graph: Graph, image: Tensor) -> dict[str, float]:
    """Returns the median CPU seconds of the executor and of the model for one image, and its additions."""
    x = frames(model, image)
    executor = Executor(graph)
    run = executor.run(x)
    with torch.no_grad():
        model_s = _seconds(lambda: model(image.unsqueeze(0)))
    executor_s = _seconds(lambda: executor.run(x))
    return {"executor_s": executor_s, "model_s": model_s, "additions": run.synops, "steps": graph.steps}


def _seconds(call: Callable[[], Any]) -> float:
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return median(taken)


PARTS: dict[str, Callable[[Nets], Figures]] = {"agreement": agreement, "integers": integers,
                                              "fine_tuning": fine_tuning, "times": times}  # fmt: skip
"""The parts of the benchmark by their names."""


if __name__ == "__main__":
    main()
