"""Counts spikes and operations of a model while it runs: neurons, spikes, synaptic operations, MACs, energy.

The rules are those of docs/measurement.md: a layer fed spikes counts one synaptic operation (an accumulate) for each
spike and each weight it meets, integers by value, nothing from zero padding; a layer fed real values counts MACs.
Energy at 45 nm (Horowitz 2014): 4.6 pJ a MAC, 0.9 pJ an accumulate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from models.backbone import SpikingModel
from models.layers import Conv, Head, SpikeMask, SpikeMatmul, SpikeSum

MJ_PER_MAC = 4.6e-9
MJ_PER_SYNOP = 0.9e-9


@dataclass
class LayerCount:
    """What one layer did, summed over images; [T] tensors hold one number a step."""

    kind: str
    neurons: int = 0
    spikes: Tensor | None = None
    operands: list[Tensor] = field(default_factory=list)
    """Synaptic operations of each step, [T], by operand: the one with the fewest over the read steps counts."""
    macs_per_step: list[float] = field(default_factory=list)
    """MACs of each step; one number where they are computed once, whatever the steps."""

    def add_macs(self, macs: float, steps: int = 1) -> None:
        self.macs_per_step = [a + macs for a in self.macs_per_step or [0.0] * steps]

    @property
    def macs(self) -> float:
        return sum(self.macs_per_step)

    def macs_until(self, read_step: int) -> float:
        return sum(self.macs_per_step[:read_step])

    def add_operands(self, counts: list[Tensor]) -> None:
        self.operands = [a + b for a, b in zip(self.operands, counts, strict=True)] if self.operands else counts

    def synops(self, read_step: int) -> float:
        return min((float(steps[:read_step].sum()) for steps in self.operands), default=0.0)


class Meter:
    """Counts the forward passes made through it, `with Meter(model) as meter: logits = meter.forward_steps(x)`.

    The counts stay on the device until they are asked for.
    """

    def __init__(self, model: SpikingModel) -> None:
        self.model = model
        self.images = 0
        self.layers: dict[str, LayerCount] = {}
        self._levels = max((levels(module) for module in model.modules()), default=1) or 1
        self._spikes_per_value = max((spikes_per_value(module) for module in model.modules()), default=1.0)
        self._input_is_events = False
        self._handles: list[Any] = []

    def __enter__(self) -> Meter:
        for name, module in self.model.named_modules():
            count = _neuron if levels(module) else COUNTERS.get(type(module))
            if count is not None:
                self._handles.append(module.register_forward_hook(self._hook(name, count)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def forward_steps(self, x: Tensor) -> Tensor:
        """Returns `model.forward_steps(x)`, [T, B, K], and counts what it does."""
        self.images += x.shape[0]
        self._input_is_events = x.dim() == 5
        return self.model.forward_steps(x)

    def _hook(self, name: str, count: Counter) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            layer = self.layers.setdefault(name, LayerCount(type(module).__name__))
            with torch.no_grad():
                count(self, layer, module, inputs, output)

        return hook

    def is_fed_spikes(self, fed: str) -> bool:
        """Returns whether a layer fed so counts spikes; the model's own input does where it is a sequence of events."""
        return fed == "spikes" or (fed == "input" and self._input_is_events)

    def spikes_per_value(self, fed: str) -> float:
        """Returns the number by which a layer's input must be multiplied to count spikes (neurons may give k/D)."""
        return self._spikes_per_value if fed == "spikes" else 1.0

    def totals(self, read_step: int) -> dict[str, float]:
        """Returns `spikes`, `spike_rate`, `synops`, `macs`, `energy_mj` per image, read after `read_step` steps."""
        layers = self.layers.values()
        spikes = sum(float(layer.spikes[:read_step].sum()) for layer in layers if layer.spikes is not None)
        neurons = sum(layer.neurons for layer in layers)
        synops = sum(layer.synops(read_step) for layer in layers) / self.images
        macs = sum(layer.macs_until(read_step) for layer in layers) / self.images
        return {
            "spike_rate": spikes / (self.images * neurons * read_step * self._levels),
            "spikes": spikes / self.images,
            "synops": synops,
            "macs": macs,
            "energy_mj": MJ_PER_MAC * macs + MJ_PER_SYNOP * synops,
        }

    def by_layer(self, read_step: int) -> list[dict[str, Any]]:
        """Returns one row a layer: `name`, `kind`, and per image its spikes (neurons) or its operations (the rest)."""
        rows: list[dict[str, Any]] = []
        for name, layer in self.layers.items():
            row: dict[str, Any] = {"name": name, "kind": layer.kind}
            if layer.spikes is not None:
                spikes = float(layer.spikes[:read_step].sum()) / self.images
                rate = spikes / (layer.neurons * read_step * self._levels)
                row |= {"neurons": layer.neurons, "spikes": spikes, "spike_rate": rate}
            else:
                row["synops"] = layer.synops(read_step) / self.images
                row["macs"] = layer.macs_until(read_step) / self.images
            rows.append(row)
        return rows


Counter = Callable[[Meter, LayerCount, Any, tuple[Tensor, ...], Tensor], None]


def levels(module: nn.Module) -> int:
    """Returns the largest value that one step of a layer of neurons gives (D, 1 for spikes); 0 for other modules."""
    value = getattr(module, "levels", 0)
    return value if isinstance(value, int) else 0


def spikes_per_value(module: nn.Module) -> float:
    """Returns how many spikes the value 1 of a layer of neurons stands for: D where it gives k/D, else 1."""
    return 1.0 / getattr(module, "unit", 1.0 / (levels(module) or 1))


def _per_step(x: Tensor) -> Tensor:
    """Sums x_TB... to [T]. Exact: float32 within an image (counts below 2^24), float64 over images."""
    return x.flatten(2).sum(2).sum(1, dtype=torch.float64)


def _neuron(meter: Meter, layer: LayerCount, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    spikes = _per_step(output) * spikes_per_value(module)
    layer.neurons = output[0, 0].numel()
    layer.spikes = spikes if layer.spikes is None else layer.spikes + spikes


def _conv(meter: Meter, layer: LayerCount, module: Conv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    (x,) = inputs
    if not meter.is_fed_spikes(module.fed):
        layer.add_macs(module.weight[0].numel() * output[0].numel(), steps=output.shape[0])
        return
    seen = x.sum(2)
    if module.kernel_size != (1, 1) or module.stride != (1, 1):
        seen = seen * _uses(module, x.shape[-2:]).to(seen)
    synops = _per_step(seen) * (module.out_channels // module.groups) * meter.spikes_per_value(module.fed)
    layer.add_operands([synops])


def _uses(conv: nn.Conv2d, size: torch.Size) -> Tensor:
    """Returns [H, W]: how many output positions each input position feeds."""
    axes = [
        _axis_uses(length, conv.kernel_size[i], conv.stride[i], int(conv.padding[i]), conv.dilation[i])
        for i, length in enumerate(size)
    ]
    return torch.outer(*(torch.tensor(axis) for axis in axes))


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


def _head(meter: Meter, layer: LayerCount, module: Head, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    (x,) = inputs
    if meter.is_fed_spikes(module.fed):
        layer.add_operands([_per_step(x) * module.out_features * meter.spikes_per_value(module.fed)])
    else:  # linear, so one product with the mean over the read steps is enough
        layer.add_macs(module.in_features * module.out_features * x.shape[1])


def _matmul(meter: Meter, layer: LayerCount, module: SpikeMatmul, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    a, b = inputs
    widths = (b.shape[-1], a.shape[-2])
    counts = [
        _per_step(x) * width * meter.spikes_per_value("spikes")
        for x, width, kind in zip((a, b), widths, module.kinds, strict=True)
        if kind == "spikes"
    ]
    layer.add_operands(counts)


def _mask(meter: Meter, layer: LayerCount, module: SpikeMask, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    counted = output if module.counts == "passed" else inputs[0]
    layer.add_operands([_per_step(counted) * meter.spikes_per_value("spikes")])


def _sum(meter: Meter, layer: LayerCount, module: SpikeSum, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    layer.add_operands([_per_step(inputs[0]) * meter.spikes_per_value("spikes")])


COUNTERS: dict[type[nn.Module], Counter] = {
    Conv: _conv,
    Head: _head,
    SpikeMatmul: _matmul,
    SpikeMask: _mask,
    SpikeSum: _sum,
}
"""How each kind of layer is counted; a new kind is one line."""


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
