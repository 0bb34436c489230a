"""`models.neurons.fire` for the LIF or IF neurons of several models at once, each model with constants of its own.

The constants are tensors that broadcast over steps and batch. That rules out the passes of `models.neurons.fire` that
take one number for all neurons (ATen's threshold); here `S = H >= threshold` is written at each step, and the reset is
`V = H - H S`, exact since S is 0 or 1. Charge and reset round as there, hence the spikes are equal to the bit.
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
Place = Callable[[list[float]], Tensor]
"""Makes of one value for each model a tensor [L] over the values of one image."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Constants:
    """What the passes over [T, B, L] need, each of shape [L]; `tau` is None where there is no leak."""

    tau: Tensor | None
    threshold: Tensor
    slope: Tensor
    """The factor on H - threshold within the surrogate's derivative."""
    offset: Tensor
    """Minus slope x threshold."""
    leak: Tensor
    """What the gradient keeps from a step to the one before: 1 - 1/tau."""
    gain: Tensor
    """What the surrogate's derivative has as a constant factor, over tau."""
    surrogate: Surrogate


def constants(
    tau: Sequence[float] | None,
    threshold: Sequence[float],
    alpha: Sequence[float],
    surrogate: Surrogate,
    place: Place,
) -> Constants:
    """Returns the constants of models with these values; the surrogates' formulas stand in `models.neurons.fire`."""
    rates = [1.0] * len(threshold) if tau is None else [1.0 / value for value in tau]
    slopes, gains = list(alpha), list(alpha)
    if surrogate == "atan":
        slopes, gains = [torch.pi / 2 * value for value in alpha], [value / 2 for value in alpha]
    return Constants(
        tau=None if tau is None else place(list(tau)),
        threshold=place(list(threshold)),
        slope=place(slopes),
        offset=place([-slope * value for slope, value in zip(slopes, threshold, strict=True)]),
        leak=place([1.0 if tau is None else 1.0 - rate for rate in rates]),
        gain=place([gain * rate for gain, rate in zip(gains, rates, strict=True)]),
        surrogate=surrogate,
    )


def fire_many(x_TBL: Tensor, v_BL: Tensor | None, known: Constants) -> tuple[Tensor, Tensor]:
    """Returns the spikes [T, B, L] and the membranes [B, L] after the last step, which carry no gradient.

    `v_BL` is None at rest. As with `fire`, the backward pass can run once.
    """
    apply: Any = _FireMany.apply
    spikes, v_last = apply(x_TBL, v_BL, known)
    return spikes, v_last


class _FireMany(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor | None, known: Constants) -> tuple[Tensor, Tensor]:
        h, spikes, v_last = (x.new_empty(shape) for shape in (x.shape, x.shape, x.shape[1:]))
        for part in _blocks(x):
            state = None if v is None else v[part]
            for t in range(len(x)):
                charged, fired = h[t, part], spikes[t, part]
                _charge(x[t, part], state, known.tau, out=charged)
                torch.ge(charged, known.threshold, out=fired)
                state = torch.addcmul(charged, charged, fired, value=-1.0, out=v_last[part])
        ctx.save_for_backward(h, spikes)
        ctx.known = known
        ctx.mark_non_differentiable(v_last)
        return spikes, v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
        h, spikes = ctx.saved_tensors
        known: Constants = ctx.known
        for part in _blocks(h):
            grad_h = _through_spike(grad[:, part], h[:, part], known)
            keep = torch.empty_like(grad_h[0])
            for t in reversed(range(len(h) - 1)):
                torch.addcmul(known.leak, known.leak, spikes[t, part], value=-1.0, out=keep)
                grad_h[t].addcmul_(grad_h[t + 1], keep)
            torch.mul(grad_h, known.gain, out=h[:, part])
        return h, None, None


def _blocks(x_TBL: Tensor) -> list[slice]:
    """Returns ranges of the batch that stay in the cache for all steps."""
    T, B, L = x_TBL.shape
    size = max(1, BLOCK // (T * L))
    return [slice(start, min(B, start + size)) for start in range(0, B, size)]


def _charge(current: Tensor, v: Tensor | None, tau: Tensor | None, out: Tensor) -> None:
    if tau is None:
        torch.add(current, 0.0 if v is None else v, out=out)
    elif v is None:
        torch.div(current, tau, out=out)
    else:
        torch.addcdiv(v, torch.sub(current, v, out=out), tau, out=out)


def _through_spike(grad: Tensor, h: Tensor, known: Constants) -> Tensor:
    """Returns grad times the surrogate's derivative but for its constant factor, as a new tensor."""
    u = torch.addcmul(known.offset, h, known.slope)
    if known.surrogate == "sigmoid":
        u.sigmoid_()
        through: Tensor = aten.sigmoid_backward.grad_input(grad, u, grad_input=u)
        return through
    return torch.div(grad, u.square_().add_(1.0), out=u)
