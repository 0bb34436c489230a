"""The memory that training a config takes, predicted from its shapes before any card is used.

Counted: parameters, gradients, the optimizer's state, what a forward pass keeps for the backward pass at the config's
batch size, and the data where it lies on the card. Mixed precision, kernels' workspaces and the allocator's gaps are
not counted: what trials really took, their `peak_mem_gib`, corrects for them (`learned_scale`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model
from search.feasible import input_shape
from trainers import optim
from trainers.config import TrainConfig
from trainers.datasets import STREAMED, TRAIN_IMAGES

CONTEXT_GIB = 0.6
"""What a process takes of a card before its first tensor: CUDA's context and kernels."""

COUNTED_BATCHES = (2, 4)
"""Images of the counted forward passes; what is kept grows in a straight line with the batch."""

UNKNOWN_SCALE = 1.3
"""Taken for what was really used over what was predicted, until trials tell."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds at its peak, by what they are."""

    parameters: int
    optimizer: int
    activations: int
    data: int

    @property
    def gib(self) -> float:
        """Returns the sum; gradients take as much as parameters."""
        return (2 * self.parameters + self.optimizer + self.activations + self.data) / 2**30


def predict(config: TrainConfig) -> Memory:
    """Returns what training the config holds, from shapes alone, without allocating it."""
    with torch.device("meta"):
        model = create_model(config).train()
        kept = []
        for batch in COUNTED_BATCHES:
            images = torch.empty(batch, *input_shape(config))
            kept.append(kept_for_backward(model, images, torch.zeros(batch, dtype=torch.long)))
    an_image = (kept[1] - kept[0]) // (COUNTED_BATCHES[1] - COUNTED_BATCHES[0])
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    return Memory(
        parameters=parameters,
        optimizer=int(parameters * _state_per_parameter(config)),
        activations=kept[0] + an_image * (config.batch_size - COUNTED_BATCHES[0]),
        data=_data_bytes(config),
    )


def kept_for_backward(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Returns the bytes that one forward pass keeps for its backward pass, parameters and buffers not counted."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other one gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(model(images), labels)
    return sum(storage.nbytes() for storage in kept.values())


def _state_per_parameter(config: TrainConfig) -> float:
    """Returns the bytes of an optimizer's state for each byte of parameters, from one step of a small layer."""
    layer = nn.Linear(64, 64, bias=False)
    optimizer = optim.make_optimizer(layer, config)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    state = (value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor))
    return sum(value.nbytes for value in state if value.dim()) / layer.weight.nbytes


def _data_bytes(config: TrainConfig) -> int:
    """Returns the bytes of the training data, which lies beside the model unless it is streamed; events as counts."""
    if config.dataset in STREAMED:
        return 0
    return TRAIN_IMAGES[config.dataset] * math.prod(input_shape(config))


def learned_scale(seen: Iterable[tuple[float, float]]) -> float:
    """Returns what trials took over what was predicted of them, from pairs (predicted, used) in GiB.

    The largest of the ratios that are no outliers (three times the median), so that most trials stay below it.
    """
    ratios = [used / predicted for predicted, used in seen if predicted > 0 and used > 0]
    if not ratios:
        return UNKNOWN_SCALE
    middle = statistics.median(ratios)
    return max(ratio for ratio in ratios if ratio <= 3 * middle)


def share_of_card(gib: float, card_gib: float) -> float:
    """Returns the share of a card, rounded up to a twentieth, that a training of so many GiB needs; 1 at most."""
    return min(1.0, math.ceil(20 * (gib + CONTEXT_GIB) / card_gib) / 20)


def bigger_share(share: float) -> float | None:
    """Returns the share of a card with which a training that ran out of memory is tried again; None if it had one."""
    return None if share >= 1.0 else min(1.0, 2 * share)
