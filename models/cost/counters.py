"""How each kind of layer is counted: what is summed of its input, by what that is multiplied, and its dense operations.

The rules are those of docs/measurement.md. Sums stay on the device, one number a step and image, and a tensor that
several layers see is summed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.parts.layers import Conv, Head, InputKind, SpikeMask, SpikeMatmul, SpikeSum

Role = Literal["neuron", "weights", "attention"]
MOST_REMEMBERED = 3
"""Tensors that are held so that a sum can be used again."""


@dataclass
class Counted:
    """What one call of a layer gave: sums [t, B] with their factors, and what its shapes alone say, for one step."""

    role: Role
    sums: list[tuple[str, Tensor, float]] = field(default_factory=list)
    """What is counted (`spikes`, `synops`, ...), its sum, and the factor on it."""
    is_real: bool = False
    neurons: int = 0
    weights: int = 0
    dense: float = 0.0
    """Operations of one step and image if every input were on, zero padding included, bias not."""
    bias: float = 0.0
    inputs: int = 0


class Tally:
    """What the counters share during a forward pass: what the model is fed, and the sums of recent tensors."""

    def __init__(self, spikes_per_value: float, *, with_squares: bool) -> None:
        self.images = 0
        self.input_is_events = False
        self._spikes_per_value = spikes_per_value
        self._with_squares = with_squares
        self._recent: list[tuple[tuple[int, ...], Tensor, Tensor]] = []
        self._uses: dict[tuple[nn.Module, torch.Size], Tensor] = {}

    def is_fed_spikes(self, fed: InputKind) -> bool:
        """Returns whether a layer fed so counts spikes; the model's own input does where it is a sequence of events."""
        return fed == "spikes" or (fed == "input" and self.input_is_events)

    def spikes_per_value(self, fed: InputKind) -> float:
        """Returns the number by which a layer's input must be multiplied to count spikes (neurons may give k/D)."""
        return self._spikes_per_value if fed == "spikes" else 1.0

    def total(self, x: Tensor) -> Tensor:
        """Returns the sum of each step and image, [t, B], exact below 2^24; views of a whole tensor share theirs."""
        whole = not x.is_meta and x.numel() * x.element_size() == x.untyped_storage().nbytes()
        key = (x.data_ptr(), *x.shape[:2], *x.stride()[:2]) if whole else (id(x), 0, 0, 0, 0)
        for known, _, total in self._recent:
            if known == key:
                return total
        total = x.flatten(2).sum(2) if x.is_contiguous() else x.sum(tuple(range(2, x.dim())))
        self._recent = [*self._recent[1 - MOST_REMEMBERED :], (key, x, total)]
        return total

    def met(self, conv: Conv, x: Tensor) -> Tensor:
        """Returns the sum of x, each value times the output positions that it feeds, [t, B]."""
        if conv.kernel_size == (1, 1) and conv.stride == (1, 1):
            return self.total(x)
        size = x.shape[-2:]
        uses = self._uses.get((conv, size))
        if uses is None:
            uses = self._uses[conv, size] = _uses(conv, size).to(x)
        return (x.flatten(3) @ uses).sum(2, dtype=torch.float64)

    def with_input(self, x: Tensor, counted: Counted) -> Counted:
        """Adds, where the energy rule wants it, what tells whether the input is binary, and how often it is 1."""
        counted.inputs = x[0].numel() // self.images
        if self._with_squares and not counted.is_real:
            counted.sums += [("input", self.total(x), 1.0), ("square", x.square().flatten(2).sum(2), 1.0)]
        return counted

    def forget(self) -> None:
        """Lets go of the tensors of the pass."""
        self._recent = []


Counter = Callable[[Tally, Any, tuple[Tensor, ...], Tensor], Counted]


def levels(module: nn.Module) -> int:
    """Returns the largest value that one step of a layer of neurons gives (D, 1 for spikes); 0 for other modules."""
    value = getattr(module, "levels", 0)
    return value if isinstance(value, int) else 0


def largest_level(model: nn.Module) -> int:
    """Returns the most spikes that a neuron of the model gives in a step."""
    return max((levels(module) for module in model.modules()), default=1) or 1


def spikes_per_value(module: nn.Module) -> float:
    """Returns how many spikes the value 1 of a layer of neurons stands for: D where it gives k/D, else 1."""
    return 1.0 / getattr(module, "unit", 1.0 / (levels(module) or 1))


def counter_of(module: nn.Module) -> Counter | None:
    """Returns how a module is counted, None where it is free."""
    return _neuron if levels(module) else COUNTERS.get(type(module))


def _neuron(tally: Tally, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    spikes = [("spikes", tally.total(output), spikes_per_value(module))]
    return Counted("neuron", spikes, neurons=output[0].numel() // tally.images)


def _conv(tally: Tally, module: Conv, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    (x,) = inputs
    outputs = output[0].numel() // tally.images
    counted = Counted(
        "weights",
        is_real=not tally.is_fed_spikes(module.fed),
        weights=module.weight.numel(),
        dense=module.weight[0].numel() * outputs,
        bias=0.0 if module.bias is None else outputs,
    )
    if not counted.is_real:
        factor = (module.out_channels // module.groups) * tally.spikes_per_value(module.fed)
        counted.sums.append(("synops", tally.met(module, x), factor))
    return tally.with_input(x, counted)


def _head(tally: Tally, module: Head, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    (x,) = inputs
    counted = Counted(
        "weights",
        is_real=not tally.is_fed_spikes(module.fed),
        weights=module.weight.numel(),
        dense=module.weight.numel(),
        bias=0.0 if module.bias is None else module.out_features,
    )
    if not counted.is_real:
        factor = module.out_features * tally.spikes_per_value(module.fed)
        counted.sums.append(("synops", tally.total(x), factor))
    return tally.with_input(x, counted)


def _matmul(tally: Tally, module: SpikeMatmul, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    a, b = inputs
    sums = [
        (f"synops {side}", tally.total(x), width * tally.spikes_per_value("spikes"))
        for side, x, width, kind in zip(
            ("left", "right"), (a, b), (b.shape[-1], a.shape[-2]), module.kinds, strict=True
        )
        if kind == "spikes"
    ]
    return Counted("attention", sums, dense=a.shape[-1] * output[0].numel() / tally.images)


def _mask(tally: Tally, module: SpikeMask, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    total = tally.total(output if module.counts == "passed" else inputs[0])
    dense = output[0].numel() / tally.images
    return Counted("attention", [("synops", total, tally.spikes_per_value("spikes"))], dense=dense)


def _sum(tally: Tally, module: SpikeSum, inputs: tuple[Tensor, ...], output: Tensor) -> Counted:
    (x,) = inputs
    total = tally.total(x)
    return Counted(
        "attention", [("synops", total, tally.spikes_per_value("spikes"))], dense=x[0].numel() / tally.images
    )


COUNTERS: dict[type[nn.Module], Counter] = {
    Conv: _conv,
    Head: _head,
    SpikeMatmul: _matmul,
    SpikeMask: _mask,
    SpikeSum: _sum,
}
"""How each kind of layer is counted; a new kind is one line."""


def _uses(conv: nn.Conv2d, size: torch.Size) -> Tensor:
    """Returns [H W]: how many output positions each input position feeds."""
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
