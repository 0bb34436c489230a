"""Weights of few bits in training (quantisation-aware training): whole multiples of a learned step per output channel.

Gradients pass the rounding (straight-through estimator), and reach the step as in learned step size quantisation (LSQ,
Esser et al., ICLR 2020). Published models learn the step itself. All others learn the largest weight, as steps of many
bits are far smaller than what an optimizer such as Adam moves a parameter by.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection

import torch
from torch import Tensor, nn

from models.parts.layers import Conv, GroupProduct, Head, Layer

SHARES = tuple(share / 20 for share in range(20, 5, -1))
"""Shares of a channel's largest weight among which the start of its range is chosen."""


class WeightQuantizer(Layer):
    """Returns `round(clip(w / s, lowest, largest)) s` for weights w [O, ...], with a step s of each output.

    Rounding is half to even.
    """

    def __init__(self, bits: int, lowest: int) -> None:
        super().__init__()
        self.bits, self.lowest, self.largest = bits, lowest, 2 ** (bits - 1) - 1

    @abstractmethod
    def steps(self) -> Tensor:
        """Returns the step of each output, [O]."""

    @abstractmethod
    def start(self, weight: Tensor) -> None:
        """Sets the steps from weights."""

    def levels(self, weight: Tensor) -> Tensor:
        """Returns the whole numbers, `lowest` to `largest`, whose products with the steps are the quantised weights.

        They are rounded in float32, so that a copy of the model in float64 has those of the training.
        """
        scaled = self._clipped(weight.detach().float(), self._steps_as(weight).detach().float())
        return scaled.round().to(weight.dtype)

    def forward(self, weight: Tensor) -> Tensor:
        step = self._steps_as(weight)
        scaled = self._clipped(weight, step)
        quantized: Tensor = (self.levels(weight) + (scaled - scaled.detach())) * step
        return quantized

    def _steps_as(self, weight: Tensor) -> Tensor:
        return self.steps().view(-1, *(1 for _ in weight.shape[1:]))

    def _clipped(self, weight: Tensor, step: Tensor) -> Tensor:
        return (weight / step).clamp(self.lowest, self.largest)


class LearnedStepQuantizer(WeightQuantizer):
    """LSQ in two's complement, as published with QSD-Transformer: levels `-2^(b-1)` to `2^(b-1) - 1`, learned steps.

    The gradient of a step is scaled by `1 / sqrt(weights x largest level)`. Steps start at
    `2 mean |w| / sqrt(largest level)`.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(bits, -(2 ** (bits - 1)))
        self.alpha = nn.Parameter(weight.detach().flatten(1)[:, 0].clone())
        self.gradient_scale = (weight.numel() * self.largest) ** -0.5
        self.start(weight)

    def steps(self) -> Tensor:
        scaled = self.alpha * self.gradient_scale
        steps: Tensor = self.alpha.detach() + (scaled - scaled.detach())
        return steps

    def start(self, weight: Tensor) -> None:
        start = 2.0 * weight.detach().abs().mean() / self.largest**0.5
        self.alpha.data.copy_(start)


class LearnedRangeQuantizer(WeightQuantizer):
    """Symmetric levels, `-(2^(b-1) - 1)` to `2^(b-1) - 1`, with a learned largest weight of each output.

    A step is `|bound| / largest level`. Bounds start at the share of the largest weight, 0.3 to 1, that has the least
    squared error of the quantised weights.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(bits, 1 - 2 ** (bits - 1))
        self.bound = nn.Parameter(weight.detach().flatten(1).abs().amax(1))
        self.start(weight)

    def steps(self) -> Tensor:
        steps: Tensor = self.bound.abs() / self.largest
        return steps

    def start(self, weight: Tensor) -> None:
        rows = weight.detach().flatten(1)
        peaks = rows.abs().amax(1, keepdim=True)
        peaks = torch.where(peaks > 0, peaks, 1.0)
        best = torch.full_like(peaks, torch.inf)
        for share in SHARES:
            bounds = share * peaks
            step = bounds / self.largest
            error = (self._clipped(rows, step).round() * step - rows).square().sum(1, keepdim=True)
            self.bound.data.copy_(torch.where(error < best, bounds, self.bound.data[:, None])[:, 0])
            best = torch.minimum(error, best)


def quantize_weights(model: nn.Module, bits: int, *, published: bool) -> None:
    """Quantises the weights of all convolutions, products and heads of a model, from their current values on.

    `published` names the models whose released weights are quantised: theirs are the levels of that code.
    """
    kind = LearnedStepQuantizer if published else LearnedRangeQuantizer
    for layer in _layers(model).values():
        layer.quantizer = kind(layer.weight_by_output(), bits)


def restart_steps(model: nn.Module, missing: Collection[str]) -> None:
    """Sets the steps of these parameter names from the weights, as when weights without steps are loaded."""
    for name, layer in _layers(model).items():
        if any(key.startswith(f"{name}.quantizer.") for key in missing):
            assert isinstance(layer.quantizer, WeightQuantizer)
            layer.quantizer.start(layer.weight_by_output())


def is_step(key: str) -> bool:
    """Returns whether a parameter's name is that of a quantiser's steps."""
    return ".quantizer." in key


def _layers(model: nn.Module) -> dict[str, Conv | GroupProduct | Head]:
    found = model.named_modules()
    return {name: module for name, module in found if isinstance(module, Conv | GroupProduct | Head)}
