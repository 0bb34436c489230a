"""Differentiable spike, Dspike (Li et al., NeurIPS 2021): a surrogate that is zero half a unit from the threshold."""

from __future__ import annotations

import math
from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor
from torch.autograd.function import once_differentiable

HALF_WIDTH = 0.5
"""Distance from the threshold beyond which the gradient is 0."""


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0.0).to(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(2.0 * ctx.alpha * x)
        slope = 2.0 * ctx.alpha / math.tanh(ctx.alpha / 2.0) * s * (1.0 - s)
        return grad * slope.masked_fill(x.abs() > HALF_WIDTH, 0.0), None


class DSpike(surrogate.SurrogateFunctionBase):  # type: ignore[misc]  # spikingjelly has no types
    """Spikes with the gradient of `tanh(alpha x) / (2 tanh(alpha / 2)) + 1 / 2` within half a unit of the threshold.

    It rises from 0 to 1 there. The paper calls alpha b, and adapts it during training; here it is fixed.
    """

    def __init__(self, alpha: float = 5.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=alpha)

    @staticmethod
    def spiking_function(x: Tensor, alpha: float) -> Tensor:
        """Returns 1 where x >= 0, else 0."""
        apply: Any = _Spike.apply
        spikes: Tensor = apply(x, alpha)
        return spikes

    @staticmethod
    def primitive_function(x: Tensor, alpha: float) -> Tensor:
        """Returns the function whose gradient the spikes have."""
        return torch.tanh(alpha * x.clamp(-HALF_WIDTH, HALF_WIDTH)) / (2.0 * math.tanh(alpha / 2.0)) + 0.5
