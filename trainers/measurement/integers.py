"""Accuracy of a trained network as integers: weights of 8 bits and integer membranes, as a chip file computes it."""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from config.errors import ConfigError
from models.chip import dense
from models.chip.graph import Graph
from models.chip.lowering import double, lower
from models.chip.ops import Array
from models.chip.quantize import Precision, quantize
from models.parts.backbone import SpikingModel
from trainers.augment.images import Augmentation
from trainers.config import TrainConfig
from trainers.data import Data

BATCH = 32
"""Images at a time: the machine keeps all spikes of a batch."""


def with_integer_accuracy(
    read_outs: list[dict[str, float]], model: SpikingModel, data: Data, augment: Augmentation, config: TrainConfig
) -> list[dict[str, float]]:
    """Returns read-outs with `accuracy_int8`.

    Those of a model that has no integer form stay as they are, with a warning that names the layer and the reason.
    """
    try:
        accuracies = integer_accuracies(model, data, augment, config, bits=8)
    except ConfigError as error:
        warnings.warn(f"accuracy_int8 is not measured: {error}", stacklevel=2)
        return read_outs
    return [{**row, "accuracy_int8": accuracies[int(row["read_step"]) - 1]} for row in read_outs]


def integer_accuracies(
    model: SpikingModel, data: Data, augment: Augmentation, config: TrainConfig, *, bits: int
) -> list[float]:
    """Returns the accuracy, in percent, of the read-out at each step 1..T of the network in integers.

    Raises ConfigError with a layer's name for what integers cannot express.
    """
    exact, graph = double(model).cpu(), None
    correct = np.zeros(config.step)
    for images, labels in data.in_order(BATCH):
        x = augment.plain(images).cpu().double()
        if graph is None:
            graph = quantize(lower(exact, x[0]), Precision.of_weights(bits), config.input_range())
        logits = step_logits(graph, exact, x).cumsum(0)
        correct += (logits.argmax(2) == labels.cpu().numpy()).sum(1)
    return [100.0 * float(count) / len(data) for count in correct]


def step_logits(graph: Graph, model: SpikingModel, x: Tensor) -> Array:
    """Returns the logits of a model's graph at each step, [T, B, K], for the model's inputs on the CPU."""
    is_still = x.dim() == 4 and model.config.encoding == "direct"
    sequence = x if is_still else model.as_steps(x).transpose(0, 1)
    return dense.run(graph, sequence.double().numpy()).step_logits
