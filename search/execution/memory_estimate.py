"""Memory estimate: the peak memory of a training, predicted from the config's shapes without allocating it.

Counted are parameters, gradients, the optimizer's state, tensors saved for the backward pass at the config's batch
size, temporary tensors of a step, and training data on the GPU. A GPU's kernels keep only the currents of a layer of
neurons, and `amp` keeps them and the weights' copies in 16 bits. Workspaces of cuDNN and gaps between tensors are not
counted; trials report their true peak as `peak_mem_gib`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.build import shape_model
from models.cost.counters import levels
from models.neurons.mixture import HDLIF
from models.neurons.nodes import PSN
from models.neurons.ternary import Ternary
from search.space.feasibility import input_shape
from trainers import optim
from trainers.config import TrainConfig
from trainers.datasets import STREAMED, TRAIN_IMAGES

TEMPORARIES = 1.3
"""Peak of a step over the tensors saved for the backward pass: 1.12 to 1.31 in 13 configs, by the CPU's allocator. The
rest are inputs of operations and gradients of activations."""
GPU_TEMPORARIES = 1.05
"""The same on a GPU, by PyTorch's allocator: 0.99 to 1.05 in 16 configs of 7 families (docs/gpu.md)."""
GPU_WORKSPACES = 2**26
"""Bytes that PyTorch allocates for cuBLAS."""

KEEP_MORE = PSN | Ternary | HDLIF
"""Neurons that keep more than their currents on a GPU. IE-LIF keeps less, but has temporaries in float32."""

COUNTED_BATCHES = (2, 4)
"""Batch sizes of two counted forward passes; saved tensors grow linearly with the batch."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training at its peak, by purpose."""

    parameters: int
    optimizer: int
    activations: int
    data: int
    extra: int = 0
    """Weights in the dtype of mixed precision, and workspaces."""
    temporaries: float = TEMPORARIES

    @property
    def gib(self) -> float:
        """Returns the sum in GiB; gradients take as much as parameters."""
        fixed = 2 * self.parameters + self.extra + self.optimizer + self.data
        return (fixed + self.temporaries * self.activations) / 2**30


def predict(config: TrainConfig, *, on_gpu: bool = False) -> MemoryEstimate:
    """Returns the estimate for a config, with the kernels of the CPU or of a GPU."""
    is_mixed = on_gpu and config.amp
    model = shape_model(config).train()
    with torch.device("meta"):
        parameters = sum(parameter.nbytes for parameter in model.parameters())
        if on_gpu:
            _use_gpu_neurons(model)
        if is_mixed:
            model = model.bfloat16()
            for layer in (module for module in model.modules() if isinstance(module, PSN | HDLIF)):
                layer.float()  # computes in float32 under autocast too
        saved = []
        for batch in COUNTED_BATCHES:
            images = torch.empty(batch, *input_shape(config), dtype=torch.bfloat16 if is_mixed else None)
            saved.append(saved_for_backward(model, images, torch.zeros(batch, dtype=torch.long)))
    per_image = (saved[1] - saved[0]) // (COUNTED_BATCHES[1] - COUNTED_BATCHES[0])
    return MemoryEstimate(
        parameters=parameters,
        optimizer=int(parameters * _state_per_parameter(config)),
        activations=saved[0] + per_image * (config.batch_size - COUNTED_BATCHES[0]),
        data=_data_bytes(config),
        extra=(parameters // 2 if is_mixed else 0) + parameters * config.model_ema + (GPU_WORKSPACES if on_gpu else 0),
        temporaries=GPU_TEMPORARIES if on_gpu else TEMPORARIES,
    )


class _KeepsCurrents(torch.autograd.Function):
    """The memory of a GPU's neuron kernels: the backward pass needs the currents alone."""

    @staticmethod
    def forward(ctx: Any, currents: Tensor) -> Tensor:
        ctx.save_for_backward(currents)
        return torch.empty_like(currents)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def _use_gpu_neurons(model: nn.Module) -> None:
    """Replaces the layers of neurons that have a kernel on a GPU (docs/gpu.md)."""
    for module in model.modules():
        if levels(module) and not isinstance(module, KEEP_MORE):
            module.forward = _KeepsCurrents.apply


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
    images = config.num_train_images() + config.val_fraction * TRAIN_IMAGES[config.dataset]
    return round(images * math.prod(input_shape(config)))
