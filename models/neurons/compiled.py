"""Compiled versions of the passes of `models.neurons.fire`, as C++ loops from torch.compile.

A search has many shapes and constants. To limit the number of graphs, the passes are compiled for [T, N] with any N,
and constants are 0-d tensors: two graphs per number of steps, kind of charge and surrogate, for all models. Without a
compiled pass (PLIF, surrogates except Sigmoid and ATan, membranes not at rest) the eager one runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.neurons.fire import CLOSED_FORMS, fire

MAX_GRAPHS = 64
"""Limit of graphs per pass, after which PyTorch silently falls back to eager; its default is 8."""


def forward_pass(x_TN: Tensor, tau: Tensor | None, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns spikes, membranes before the reset, and membranes after the last step, from rest; no leak without tau."""
    v = torch.zeros_like(x_TN[0])
    spikes, charged = [], []
    for x in x_TN.unbind(0):
        h = v + (x if tau is None else (x - v) / tau)
        fired = h >= threshold
        v = torch.where(fired, 0.0, h)
        spikes.append(fired.to(x.dtype))
        charged.append(h)
    return torch.stack(spikes), torch.stack(charged), v


def backward_pass(
    grad_TN: Tensor,
    grad_v: Tensor | None,
    h_TN: Tensor,
    threshold: Tensor,
    alpha: Tensor,
    rate: Tensor,
    leak: Tensor,
    surrogate: str,
) -> Tensor:
    """Returns the gradient of the currents; the formulas of the surrogates are in `models.neurons.fire`."""
    out: list[Tensor] = []
    carry = torch.zeros_like(grad_TN[0]) if grad_v is None else grad_v
    for grad, h in zip(grad_TN.flip(0).unbind(0), h_TN.flip(0).unbind(0), strict=True):
        over = (h - threshold) * alpha
        if surrogate == "sigmoid":
            s = over.sigmoid()
            through = (1.0 - s) * s * alpha
        else:
            through = alpha / 2.0 / (1.0 + (torch.pi / 2.0 * over) ** 2)
        grad_h = grad * through + torch.where(h < threshold, carry, 0.0)
        carry = grad_h * leak
        out.append(grad_h * rate)
    return torch.stack(out[::-1])


class Passes(NamedTuple):
    """The compiled passes."""

    forward: Any
    backward: Any


class _CompiledFire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tau: float | None, threshold: float, alpha: float, surrogate: str
    ) -> tuple[Tensor, Tensor]:
        ctx.rate = 1.0 if tau is None else 1.0 / tau
        ctx.leak = 1.0 if tau is None else 1.0 - ctx.rate
        ctx.threshold, ctx.alpha, ctx.surrogate = threshold, alpha, surrogate
        scalar = x.new_tensor
        divisor = None if tau is None else scalar(tau)
        spikes_TN, h_TN, v_last = passes().forward(x.flatten(1), divisor, scalar(threshold))  # type: ignore[union-attr]
        ctx.save_for_backward(h_TN)
        ctx.set_materialize_grads(False)
        ctx.shape = x.shape
        return spikes_TN.view(x.shape), v_last.view(x.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_v: Tensor | None) -> tuple[Tensor | None, ...]:
        (h_TN,) = ctx.saved_tensors
        constants = [h_TN.new_tensor(value) for value in (ctx.threshold, ctx.alpha, ctx.rate, ctx.leak)]
        grad_TN = torch.zeros_like(h_TN) if grad is None else grad.flatten(1)
        after = None if grad_v is None else grad_v.flatten()
        grad_x = passes().backward(grad_TN, after, h_TN, *constants, ctx.surrogate)  # type: ignore[union-attr]
        return grad_x.view(ctx.shape), None, None, None, None


def compiled_fire(
    x: Tensor,
    v: Tensor | None,
    threshold: float,
    spike: Any,
    *,
    tau: float | None = None,
    decay: Tensor | None = None,
    keep_v: bool = True,
) -> tuple[Tensor, Tensor | Callable[[], Tensor]]:
    """Returns the result of `fire`; membranes from rest are always written, as this costs nothing in the loop."""
    if v is not None or decay is not None or type(spike) not in CLOSED_FORMS:
        return fire(x, v, threshold, spike, tau=tau, decay=decay, keep_v=keep_v)
    apply: Any = _CompiledFire.apply
    spikes, v_last = apply(x, tau, threshold, spike.alpha, CLOSED_FORMS[type(spike)])
    return spikes, v_last


@cache
def passes() -> Passes | None:
    """Returns the compiled passes, or None with one warning if they cannot be compiled (no C++ compiler)."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MAX_GRAPHS)
    torch._inductor.config.compile_threads = 1  # otherwise each trial starts a process pool as large as the machine
    compiled = Passes(*(torch.compile(f, dynamic=True, fullgraph=True) for f in (forward_pass, backward_pass)))
    try:
        one = torch.ones(())
        compiled.forward(torch.zeros(2, 32), one, one)
    except Exception as error:  # a missing or failing compiler raises various types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"compile: true needs a C++ compiler ({reason}); training continues without it", stacklevel=2)
        return None
    return compiled


def compile_neurons(model: nn.Module) -> bool:
    """Switches the LIF and IF neurons of a model to compiled passes on the CPU. Returns whether this is possible."""
    if passes() is None:
        return False
    for module in model.modules():
        if hasattr(module, "leak"):
            module.fire = compiled_fire  # type: ignore[assignment]
    return True
