"""The memory that training a config takes, predicted from its shapes before any card is used.

Counted: parameters, gradients, the optimizer's state, what a forward pass keeps for the backward pass at the config's
batch size, the data where it lies on the card, and what passes by in a step. Mixed precision, kernels' workspaces and
the allocator's gaps are not counted: trials report what they really took as `peak_mem_gib`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model
from search.space.feasibility import input_shape
from trainers import optim
from trainers.config import TrainConfig
from trainers.datasets import STREAMED, TRAIN_IMAGES

PASSING = 1.3
"""What a step holds at its peak over what it keeps for the backward pass: 1.12 to 1.31 in 13 configs, by the CPU's
allocator. The rest passes by: what is computed from, and gradients of what was kept."""

COUNTED_BATCHES = (2, 4)
"""Images of the counted forward passes; what is kept grows in a straight line with the batch."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training holds at its peak, by what they are."""

    parameters: int
    optimizer: int
    activations: int
    data: int

    @property
    def gib(self) -> float:
        """Returns the sum; gradients take as much as parameters."""
        return (2 * self.parameters + self.optimizer + PASSING * self.activations + self.data) / 2**30


def predict(config: TrainConfig) -> MemoryEstimate:
    """Returns what training the config holds, from shapes alone, without allocating it."""
    with torch.device("meta"):
        model = create_model(config).train()
        kept = []
        for batch in COUNTED_BATCHES:
            images = torch.empty(batch, *input_shape(config))
            kept.append(saved_for_backward(model, images, torch.zeros(batch, dtype=torch.long)))
    an_image = (kept[1] - kept[0]) // (COUNTED_BATCHES[1] - COUNTED_BATCHES[0])
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    return MemoryEstimate(
        parameters=parameters,
        optimizer=int(parameters * _state_per_parameter(config)),
        activations=kept[0] + an_image * (config.batch_size - COUNTED_BATCHES[0]),
        data=_data_bytes(config),
    )


def saved_for_backward(model: nn.Module, images: Tensor, labels: Tensor) -> int:
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
