"""Memory estimate: the peak memory of a training, predicted from the config's shapes without allocating it.

Counted are parameters, gradients, the optimizer's state, tensors saved for the backward pass at the config's batch
size, temporary tensors of a step, and training data on the GPU. Mixed precision, kernel workspaces and fragmentation
are not counted; trials report their true peak as `peak_mem_gib`.
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

TEMPORARIES = 1.3
"""Peak of a step over the tensors saved for the backward pass: 1.12 to 1.31 in 13 configs, by the CPU's allocator. The
rest are inputs of operations and gradients of activations."""

COUNTED_BATCHES = (2, 4)
"""Batch sizes of two counted forward passes; saved tensors grow linearly with the batch."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training at its peak, by purpose."""

    parameters: int
    optimizer: int
    activations: int
    data: int

    @property
    def gib(self) -> float:
        """Returns the sum in GiB; gradients take as much as parameters."""
        return (2 * self.parameters + self.optimizer + TEMPORARIES * self.activations + self.data) / 2**30


def predict(config: TrainConfig) -> MemoryEstimate:
    """Returns the estimate for a config."""
    with torch.device("meta"):
        model = create_model(config).train()
        saved = []
        for batch in COUNTED_BATCHES:
            images = torch.empty(batch, *input_shape(config))
            saved.append(saved_for_backward(model, images, torch.zeros(batch, dtype=torch.long)))
    per_image = (saved[1] - saved[0]) // (COUNTED_BATCHES[1] - COUNTED_BATCHES[0])
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    return MemoryEstimate(
        parameters=parameters,
        optimizer=int(parameters * _state_per_parameter(config)),
        activations=saved[0] + per_image * (config.batch_size - COUNTED_BATCHES[0]),
        data=_data_bytes(config),
    )


def saved_for_backward(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Returns the bytes that a forward pass saves for its backward pass, without parameters and buffers."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage  # a reference, so that no other storage gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(model(images), labels)
    return sum(storage.nbytes() for storage in saved.values())


def _state_per_parameter(config: TrainConfig) -> float:
    """Returns the bytes of the optimizer's state per byte of parameters, from one step of a small layer."""
    layer = nn.Linear(64, 64, bias=False)
    optimizer = optim.make_optimizer(layer, config)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    state = (value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor))
    return sum(value.nbytes for value in state if value.dim()) / layer.weight.nbytes


def _data_bytes(config: TrainConfig) -> int:
    """Returns the bytes of the training data, which is in the same memory unless it is streamed."""
    if config.dataset in STREAMED:
        return 0
    return TRAIN_IMAGES[config.dataset] * math.prod(input_shape(config))
