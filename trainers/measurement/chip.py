"""Export of a model to integers, measured on validation images: python -m trainers.measurement.chip CHECKPOINT

The test set is never read.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from config import cli
from config.errors import ConfigError
from models.chip import command
from trainers import config as train_file
from trainers.config import TrainConfig
from trainers.datasets import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from models.chip.graph import Graph
    from models.chip.report import Measured
    from models.parts.backbone import SpikingModel
    from trainers.data import Data

IMAGES, EXECUTED = 500, 4


@dataclass(frozen=True)
class Accuracy:
    """Accuracies on the same images, in percent."""

    images: int
    model: float
    integer: float

    @property
    def points_lost(self) -> float:
        """Returns the percentage points by which the integer network is worse."""
        return self.model - self.integer


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 missing data or disk."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m trainers.measurement.chip", description=__doc__)
    command.add_options(parser)
    parser.add_argument("--data-dir", metavar="D", help="the folder that holds the data set's files")
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help="validation images for the accuracy, "
                        f"of each class in proportion (default {IMAGES}; 0 measures nothing)")  # fmt: skip
    parser.add_argument("--executed", type=int, default=EXECUTED, metavar="N", help="images that are executed spike by "
                        f"spike, with all operations counted (default {EXECUTED})")  # fmt: skip
    return parser


def _main(arguments: argparse.Namespace) -> int:
    cli.import_packages(arguments.imports)
    for name in ("images", "executed"):
        if getattr(arguments, name) < 0:
            raise ConfigError(f"--{name} must be >= 0 (got {getattr(arguments, name)})")
    from models.chip.quantize import Precision, quantize
    from models.chip.report import Measured

    precision = Precision.of_weights(arguments.bits, arguments.membrane_bits, arguments.input_bits)
    path = command.config_path(arguments.checkpoint, arguments.config)
    overrides = [] if arguments.data_dir is None else [f"data_dir={json.dumps(arguments.data_dir)}"]
    config = train_file.load(path, overrides=overrides) if arguments.images else None
    loaded = command.load(arguments.checkpoint, path)
    graph = command.lower_loaded(loaded)
    integer = quantize(graph, precision, loaded.input_range)
    measured = Measured()
    if config is not None:
        try:
            data = validation(config, arguments.images)
        except DataError as error:
            print(f"warning: not measured: {error}", file=sys.stderr)
        else:
            measured = measure(loaded.model, graph, integer, config, data, arguments.executed)
    for key, value in measured.facts.items():
        print(f"{key}: {value}")
    command.announce(command.write(integer, arguments.out, measured))
    return cli.OK


def validation(config: TrainConfig, images: int) -> Data:
    """Returns validation images, of each class in proportion, or all if there are fewer. Raises DataError."""
    from trainers.augment.images import distorted
    from trainers.data import check_present, load_train
    from trainers.data.split import stratified_sample

    check_present(config)
    data = load_train(config)[1]
    if not len(data):
        raise DataError(f"{config.dataset}: there is no validation part (val_fraction {config.val_fraction})")
    if images < len(data):
        data = data.take(stratified_sample(data.labels.numpy(), images, config.split_seed))
    return distorted(data, config, config.split_seed)


def accuracy(model: SpikingModel, integer: Graph, config: TrainConfig, data: Data) -> Accuracy:
    """Returns the accuracies of a model and of its graph in integers, whose sums are exact."""
    import torch

    from trainers.measurement.integers import step_logits

    hits = [0, 0]
    with torch.no_grad():
        for x, labels in inputs(config, data):
            logits = step_logits(integer, model, x)[: config.read_step].mean(0)
            hits[0] += int((model(x).argmax(1) == labels).sum())
            hits[1] += int((logits.argmax(1) == labels.numpy()).sum())
    return Accuracy(len(data), *(100.0 * hit / len(data) for hit in hits))


def inputs(config: TrainConfig, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches of the model's inputs and of labels."""
    import torch

    from trainers.augment.images import make_augment
    from trainers.measurement.integers import BATCH

    plain = make_augment(config, torch.device("cpu")).plain
    return ((plain(images), labels) for images, labels in data.in_order(BATCH))


def measure(
    model: SpikingModel, graph: Graph, integer: Graph, config: TrainConfig, data: Data, executed: int
) -> Measured:
    """Returns accuracies on the data, and what the executor counts on the first images of it."""
    from models.chip.report import Measured

    model.eval()
    found = accuracy(model, integer, config, data)
    measured = Measured({
        "validation images": f"{found.images:,} of {config.dataset}",
        "accuracy": f"{found.model:.2f} % of the model, {found.integer:.2f} % in integers",
        "points lost": f"{found.points_lost:.2f}",
    })  # fmt: skip
    images = list(islice((image for x, _ in inputs(config, data) for image in x), executed))
    if images:
        _execute(measured, model, graph, integer, images)
    return measured


def _execute(measured: Measured, model: SpikingModel, graph: Graph, integer: Graph, images: Sequence[Tensor]) -> None:
    """Adds the counts of the executor on images: of the float graph against the model, and of the integer graph."""
    from models.chip.agreement import compare

    exact, drifted = compare(model, graph, images), compare(model, integer, images)
    runs, count = drifted.runs, len(images)
    for run in runs:
        for name, layer in run.layers.items():
            measured.saturated[name] = measured.saturated.get(name, 0) + layer.saturated
            measured.peaks[name] = max(measured.peaks.get(name, 0.0), layer.peak)
            for totals, value in ((measured.spikes, layer.spikes), (measured.synops, layer.synops)):
                totals[name] = totals.get(name, 0.0) + value / count
    sizes = _outputs(integer)
    for name, size in sizes.items():
        measured.drift[name] = 100.0 * drifted.layers[name].spikes_differ / (size * integer.steps * count)
    additions = sum(measured.synops.values())
    macs = sum(layer.macs for run in runs for layer in run.layers.values()) / count
    measured.facts |= _facts(exact, drifted, sum(measured.spikes.values()), additions)
    measured.facts["energy an image"] = _energy(integer, additions, macs)


def _outputs(integer: Graph) -> dict[str, int]:
    """Returns the neurons of each layer."""
    import numpy as np

    return {node.layer: int(np.prod(node.shape, dtype=int)) for node in integer.nodes if node.op == "neuron"}


def _energy(integer: Graph, additions: float, macs: float) -> str:
    from models.cost.energy import integer_energy_mj

    widths = {key: int(integer.meta[name]) for key, name in (("weight_bits", "bits"), ("input_bits", "input_bits"),
                                                             ("sum_bits", "membrane_bits"))}  # fmt: skip
    found = integer_energy_mj(additions, macs, **widths)
    return (
        f"{found:.4g} mJ: {additions:,.0f} additions of {widths['sum_bits']} bits and {macs:,.0f} products of "
        f"{widths['weight_bits']} x {widths['input_bits']} bits, by Horowitz 2014 (45 nm), without memory"
    )


def _facts(exact: Any, drifted: Any, spikes: float, synops: float) -> dict[str, str]:
    images = exact.images
    return {
        "executed images": str(images),
        "executor in float64": f"{exact.spikes_differ} spikes of {exact.spikes:,} and {exact.synops_differ} operations "
        f"of {exact.synops:,} differ from the model and its meter",
        "spikes an image": f"{exact.spikes / images:,.0f} of the model, {spikes:,.0f} in integers",
        "additions an image": f"{exact.synops / images:,.0f} of the model, {synops:,.0f} in integers",
        "answers": f"{drifted.answers_differ} of {images} differ in integers",
    }


if __name__ == "__main__":
    sys.exit(main())
