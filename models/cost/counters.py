"""Counting rules of each kind of layer: sums over its input, their factors, and its dense operations.

The rules are those of docs/measurement.md. Sums remain on the device, one number per step and image; a tensor that
several layers read is summed once. Shapes: `T` steps, `B` batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.device import copy_to
from models.parts.layers import Conv, GroupProduct, Head, InputKind, SharedConv, SpikeMask, SpikeMatmul, SpikeSum

Role = Literal["neuron", "weights", "attention"]
CACHE_SIZE = 3
"""Number of recent tensors whose sums are reused."""


@dataclass
class CallCount:
    """Counts of one call of a layer: sums with their factors, and sizes of one step and image."""

    role: Role
    sums: dict[str, tuple[Tensor, float]] = field(default_factory=dict)
    """By quantity (`spikes`, `synops`, ...): a sum [T, B], and the factor on it."""
    steps: int = 0
    """Steps of the call."""
    is_real: bool = False
    neurons: int = 0
    weights: int = 0
    dense: float = 0.0
    """Operations with all inputs on, zero padding included, bias not."""
    bias: float = 0.0
    inputs: int = 0


class CountContext:
    """State shared by the counters during a forward pass: the kind of input, and the sums of recent tensors."""

    def __init__(self, spikes_per_value: float, *, with_squares: bool) -> None:
        self.images = 0
        self.input_is_events = False
        self.input_is_encoded = False
        self._spikes_per_value = spikes_per_value
        self._with_squares = with_squares
        self._recent: list[tuple[tuple[int, ...], Tensor, Tensor]] = []
        self._uses: dict[tuple[nn.Module, torch.Size], Tensor] = {}

    def is_fed_spikes(self, fed: InputKind) -> bool:
        """Returns whether the input of a layer counts as spikes; the model's input does if it is events or encoded."""
        return fed == "spikes" or (fed == "input" and (self.input_is_events or self.input_is_encoded))

    def spikes_per_value(self, fed: InputKind) -> float:
        """Returns the factor from a layer's input to spikes; neurons may emit k/D."""
        return self._spikes_per_value if fed == "spikes" else 1.0

    def total(self, x: Tensor) -> Tensor:
        """Returns the sum of each step and image, [T, B], exact below 2^24; views of a whole tensor share one sum."""
        whole = not x.is_meta and x.numel() * x.element_size() == x.untyped_storage().nbytes()
        key = (x.data_ptr(), *x.shape[:2], *x.stride()[:2]) if whole else (id(x), 0, 0, 0, 0)
        for cached, _, total in self._recent:
            if cached == key:
                return total
        total = x.flatten(2).sum(2) if x.is_contiguous() else x.sum(tuple(range(2, x.dim())))
        self._recent = [*self._recent[1 - CACHE_SIZE :], (key, x, total)]
        return total

    def uses(self, layer: Conv | Head, x: Tensor) -> Tensor:
        """Returns the sum of x, each value times the output positions that it feeds, [T, B]."""
        if isinstance(layer, Head) or (layer.kernel_size == (1, 1) and layer.stride == (1, 1)):
            return self.total(x)
        size = x.shape[-2:]
        uses = self._uses.get((layer, size))
        if uses is None:
            uses = self._uses[layer, size] = copy_to(x, _uses(layer, size).to(x.dtype))
        return (x.flatten(3) @ uses).sum(2, dtype=torch.float64)

    def add_input(self, x: Tensor, count: CallCount) -> CallCount:
        """Adds the number of inputs and, if the energy rule needs it, sums that show whether they are binary."""
        count.inputs = x[0].numel() // self.images
        if self._with_squares and not count.is_real:
            count.sums |= {"input": (self.total(x), 1.0), "square": (x.square().flatten(2).sum(2), 1.0)}
        return count

    def clear(self) -> None:
        """Releases the tensors of the pass."""
        self._recent = []


Counter = Callable[[CountContext, Any, tuple[Tensor, ...], Tensor], CallCount]


def levels(module: nn.Module) -> int:
    """Returns D, the largest value per step of a layer of neurons (1 for binary spikes); 0 for other modules."""
    value = getattr(module, "levels", 0)
    return value if isinstance(value, int) else 0


def largest_level(model: nn.Module) -> int:
    """Returns the largest number of spikes of one neuron in one step."""
    return max((levels(module) for module in model.modules()), default=1) or 1


def spikes_per_value(module: nn.Module) -> float:
    """Returns the number of spikes per output value 1 of a layer of neurons: D where it emits k/D, else 1."""
    return 1.0 / getattr(module, "unit", 1.0 / (levels(module) or 1))


def magnitudes(module: nn.Module, output: Tensor) -> Tensor:
    """Returns the output of a layer of neurons without signs: spikes of -1 count as spikes."""
    return output.abs() if getattr(module, "is_signed", False) else output


def counter_of(module: nn.Module) -> Counter | None:
    """Returns the counter of a module, or None if it costs nothing."""
    return _neuron if levels(module) else COUNTERS.get(type(module))


def _neuron(context: CountContext, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> CallCount:
    spikes = {"spikes": (context.total(magnitudes(module, output)), spikes_per_value(module))}
    return CallCount("neuron", spikes, neurons=output[0].numel() // context.images)


def _weights(context: CountContext, module: Conv | Head, inputs: tuple[Tensor, ...], output: Tensor) -> CallCount:
    (x,) = inputs
    if module.fed == "input" and context.input_is_encoded:
        x = (x != 0).to(x.dtype)  # a spike of any value is one operation
    outputs = output[0].numel() // context.images
    count = CallCount(
        "weights",
        is_real=not context.is_fed_spikes(module.fed),
        weights=module.weight.numel(),
        dense=module.weight[0].numel() * outputs,
        bias=0.0 if module.bias is None else outputs,
    )
    if not count.is_real:
        fan_out = len(module.weight) // getattr(module, "groups", 1)
        count.sums["synops"] = (context.uses(module, x), fan_out * context.spikes_per_value(module.fed))
    return context.add_input(x, count)


def _group_product(
    context: CountContext, module: GroupProduct, inputs: tuple[Tensor, ...], output: Tensor
) -> CallCount:
    (x,) = inputs
    width = module.weight.shape[2]
    synops = {"synops": (context.total(x), width * context.spikes_per_value(module.fed))}
    dense = width * output[0].numel() / context.images
    return context.add_input(x, CallCount("weights", synops, weights=module.weight.numel(), dense=dense))


def _matmul(context: CountContext, module: SpikeMatmul, inputs: tuple[Tensor, ...], output: Tensor) -> CallCount:
    a, b = inputs
    sums = {
        f"synops {side}": (context.total(x.abs() if kind == "signed" else x), width * context.spikes_per_value(kind))
        for side, x, width, kind in zip(
            ("left", "right"), (a, b), (b.shape[-1], a.shape[-2]), module.kinds, strict=True
        )
        if kind in ("spikes", "signed")
    }
    return CallCount("attention", sums, dense=a.shape[-1] * output[0].numel() / context.images)


def _one_per_spike(context: CountContext, x: Tensor, dense: int) -> CallCount:
    sums = {"synops": (context.total(x), context.spikes_per_value("spikes"))}
    return CallCount("attention", sums, dense=dense / context.images)


def _mask(context: CountContext, module: SpikeMask, inputs: tuple[Tensor, ...], output: Tensor) -> CallCount:
    return _one_per_spike(context, output if module.counts == "passed" else inputs[0], output[0].numel())


def _sum(context: CountContext, module: SpikeSum, inputs: tuple[Tensor, ...], output: Tensor) -> CallCount:
    return _one_per_spike(context, inputs[0], inputs[0][0].numel())


COUNTERS: dict[type[nn.Module], Counter] = {
    Conv: _weights,
    SharedConv: _weights,
    GroupProduct: _group_product,
    Head: _weights,
    SpikeMatmul: _matmul,
    SpikeMask: _mask,
    SpikeSum: _sum,
}
"""The counter of each kind of layer."""


def _uses(conv: nn.Conv2d, size: torch.Size) -> Tensor:
    """Returns the number of output positions that each input position feeds, [H W]."""
    axes = [
        _axis_uses(length, conv.kernel_size[i], conv.stride[i], int(conv.padding[i]), conv.dilation[i])
        for i, length in enumerate(size)
    ]
    return torch.outer(*(torch.tensor(axis) for axis in axes)).flatten()


@lru_cache(maxsize=256)
def _axis_uses(length: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, ...]:
    uses = [0] * length
    outputs = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    for out in range(outputs):
        for tap in range(kernel):
            position = out * stride - padding + tap * dilation
            if 0 <= position < length:
                uses[position] += 1
    return tuple(uses)


def skip_elementwise(model: nn.Module) -> None:
    """Replaces neurons and norms, whose output has the shape of their input, as PyTorch computes that slowly."""
    for module in model.modules():
        if levels(module) or isinstance(module, _BatchNorm):
            module.forward = torch.empty_like
