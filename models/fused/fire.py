"""`models.neurons.fire` for the LIF or IF neurons of several models at once, with constants per model.

The constants are tensors that broadcast over steps and batch. ATen's `threshold`, used in `models.neurons.fire`, takes
one number for all neurons. Here `S = H >= threshold` is written at each step, and the reset is `V = H - H S`, exact
since S is 0 or 1. Charge and reset round as there, so the spikes are equal to the bit.

Shapes: `T` steps, `B` batch, `L` values of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.neurons.fire import BLOCK

Surrogate = Literal["sigmoid", "atan"]
Expand = Callable[[list[float]], Tensor]
"""Expands one value per model to a tensor [L]."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Constants:
    """Constants of the passes over [T, B, L], each of shape [L]; `tau` is None without leak."""

    tau: Tensor | None
    threshold: Tensor
    slope: Tensor
    """The factor on H - threshold within the surrogate's derivative."""
    offset: Tensor
    """Minus slope x threshold."""
    leak: Tensor
    """The factor of the gradient from a step to the one before: 1 - 1/tau."""
    rate: Tensor
    """The factor of the gradient from a membrane to its current: 1/tau."""
    gain: Tensor
    """The constant factor of the surrogate's derivative, over tau."""
    surrogate: Surrogate

    @classmethod
    def of_models(
        cls,
        tau: Sequence[float] | None,
        threshold: Sequence[float],
        alpha: Sequence[float],
        surrogate: Surrogate,
        expand: Expand,
    ) -> Constants:
        """Returns the constants of models with these values; the surrogates' formulas are in `models.neurons.fire`."""
        rates = [1.0] * len(threshold) if tau is None else [1.0 / value for value in tau]
        slopes, gains = list(alpha), list(alpha)
        if surrogate == "atan":
            slopes, gains = [torch.pi / 2 * value for value in alpha], [value / 2 for value in alpha]
        return cls(
            tau=None if tau is None else expand(list(tau)),
            threshold=expand(list(threshold)),
            slope=expand(slopes),
            offset=expand([-slope * value for slope, value in zip(slopes, threshold, strict=True)]),
            leak=expand([1.0 if tau is None else 1.0 - rate for rate in rates]),
            rate=expand(rates),
            gain=expand([gain * rate for gain, rate in zip(gains, rates, strict=True)]),
            surrogate=surrogate,
        )


def fire_many(x_TBL: Tensor, v_BL: Tensor | None, constants: Constants) -> tuple[Tensor, Tensor]:
    """Returns the spikes [T, B, L] and the membranes [B, L] after the last step, through which gradients flow.

    `v_BL` is None at rest. As with `fire`, the backward pass can run once.
    """
    apply: Any = _FireMany.apply
    spikes, v_last = apply(x_TBL, v_BL, constants)
    return spikes, v_last


class _FireMany(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor | None, constants: Constants) -> tuple[Tensor, Tensor]:
        h, spikes, v_last = (x.new_empty(shape) for shape in (x.shape, x.shape, x.shape[1:]))
        for part in _blocks(x):
            state = None if v is None else v[part]
            for t in range(len(x)):
                charged, fired = h[t, part], spikes[t, part]
                _charge(x[t, part], state, constants.tau, out=charged)
                torch.ge(charged, constants.threshold, out=fired)
                state = torch.addcmul(charged, charged, fired, value=-1.0, out=v_last[part])
        ctx.save_for_backward(h, spikes)
        ctx.constants = constants
        ctx.set_materialize_grads(False)
        return spikes, v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_v: Tensor | None) -> tuple[Tensor | None, ...]:
        h, spikes = ctx.saved_tensors
        constants: Constants = ctx.constants
        grad_spikes = torch.zeros_like(h) if grad is None else grad
        grad_first = torch.empty_like(h[0]) if ctx.needs_input_grad[1] else None
        for part in _blocks(h):
            grad_h = _through_spike(grad_spikes[:, part], h[:, part], constants)
            if grad_v is not None:  # the gain is a factor of all gradients, and applied at the end
                grad_h[-1] += grad_v[part] * constants.rate / constants.gain * (1.0 - spikes[-1, part])
            mask = torch.empty_like(grad_h[0])
            for t in reversed(range(len(h) - 1)):
                torch.addcmul(constants.leak, constants.leak, spikes[t, part], value=-1.0, out=mask)
                grad_h[t].addcmul_(grad_h[t + 1], mask)
            torch.mul(grad_h, constants.gain, out=h[:, part])
            if grad_first is not None:
                torch.mul(h[0, part], constants.leak / constants.rate, out=grad_first[part])
        return h, grad_first, None


def _blocks(x_TBL: Tensor) -> list[slice]:
    """Returns ranges of the batch that fit into the CPU's cache for all steps; on a GPU, where launches cost, one."""
    T, B, L = x_TBL.shape
    if x_TBL.is_cuda:
        return [slice(0, B)]
    size = max(1, BLOCK // (T * L))
    return [slice(start, min(B, start + size)) for start in range(0, B, size)]


def _charge(current: Tensor, v: Tensor | None, tau: Tensor | None, out: Tensor) -> None:
    if tau is None:
        torch.add(current, 0.0 if v is None else v, out=out)
    elif v is None:
        torch.div(current, tau, out=out)
    else:
        torch.addcdiv(v, torch.sub(current, v, out=out), tau, out=out)


def _through_spike(grad: Tensor, h: Tensor, constants: Constants) -> Tensor:
    """Returns grad times the surrogate's derivative without its constant factor, as a new tensor."""
    u = torch.addcmul(constants.offset, h, constants.slope)
    if constants.surrogate == "sigmoid":
        u.sigmoid_()
        through: Tensor = aten.sigmoid_backward.grad_input(grad, u, grad_input=u)
        return through
    return torch.div(grad, u.square_().add_(1.0), out=u)
