"""The passes of `models.neurons.fire` compiled: each one loop that torch.compile turns into C++.

A search has many shapes and constants. So that its graphs stay few, the passes are compiled for [T, N] with any N, and
constants come as 0-d tensors: two graphs for each number of steps, kind of charge and surrogate, whatever the model.
What has no compiled pass (PLIF, surrogates but Sigmoid and ATan, membranes not at rest) runs the eager one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.neurons.fire import fire

SURROGATES: dict[type[nn.Module], str] = {surrogate.Sigmoid: "sigmoid", surrogate.ATan: "atan"}

MOST_GRAPHS = 64
"""Graphs of one pass that PyTorch may make before it falls back to eager, silently; by itself it does after 8."""


def forward_pass(x_TN: Tensor, tau: Tensor | None, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns spikes, membranes before the reset, and membranes after the last step, from rest; no tau, no leak."""
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
    grad_TN: Tensor, h_TN: Tensor, threshold: Tensor, alpha: Tensor, rate: Tensor, leak: Tensor, spike: str
) -> Tensor:
    """Returns the gradient of the currents; the surrogates' formulas stand in `models.neurons.fire`."""
    out: list[Tensor] = []
    carry = torch.zeros_like(grad_TN[0])
    for grad, h in zip(grad_TN.flip(0).unbind(0), h_TN.flip(0).unbind(0), strict=True):
        over = (h - threshold) * alpha
        if spike == "sigmoid":
            s = over.sigmoid()
            through = (1.0 - s) * s * alpha
        else:
            through = alpha / 2.0 / (1.0 + (torch.pi / 2.0 * over) ** 2)
        carry = grad * through + torch.where(h < threshold, carry, 0.0) * leak
        out.append(carry * rate)
    return torch.stack(out[::-1])


@dataclass(frozen=True)
class Passes:
    """The two passes, compiled."""

    forward: Any
    backward: Any


class _CompiledFire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tau: float | None, threshold: float, alpha: float, spike: str
    ) -> tuple[Tensor, Tensor]:
        ctx.rate = 1.0 if tau is None else 1.0 / tau
        ctx.leak = 1.0 if tau is None else 1.0 - ctx.rate
        ctx.threshold, ctx.alpha, ctx.spike = threshold, alpha, spike
        scalar = x.new_tensor
        divisor = None if tau is None else scalar(tau)
        spikes_TN, h_TN, v_last = passes().forward(x.flatten(1), divisor, scalar(threshold))  # type: ignore[union-attr]
        ctx.save_for_backward(h_TN)
        v_last = v_last.view(x.shape[1:])
        ctx.mark_non_differentiable(v_last)
        return spikes_TN.view(x.shape), v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
        (h_TN,) = ctx.saved_tensors
        constants = [h_TN.new_tensor(value) for value in (ctx.threshold, ctx.alpha, ctx.rate, ctx.leak)]
        grad_x = passes().backward(grad.flatten(1), h_TN, *constants, ctx.spike)  # type: ignore[union-attr]
        return grad_x.view(grad.shape), None, None, None, None


def compiled_fire(
    x: Tensor, v: Tensor | None, threshold: float, spike: Any, *, tau: float | None = None, decay: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns what `fire` does."""
    if v is not None or decay is not None or type(spike) not in SURROGATES:
        return fire(x, v, threshold, spike, tau=tau, decay=decay)
    apply: Any = _CompiledFire.apply
    spikes, v_last = apply(x, tau, threshold, spike.alpha, SURROGATES[type(spike)])
    return spikes, v_last


@cache
def passes() -> Passes | None:
    """Returns the compiled passes, or None, with one warning, where they cannot be compiled (no C++ compiler)."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_GRAPHS)
    torch._inductor.config.compile_threads = 1  # else every trial's process starts a pool as large as the machine
    compiled = Passes(*(torch.compile(f, dynamic=True, fullgraph=True) for f in (forward_pass, backward_pass)))
    try:
        one = torch.ones(())
        compiled.forward(torch.zeros(2, 32), one, one)
    except Exception as error:  # whatever the absence or the failure of a compiler raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"compile: true needs a C++ compiler ({reason}); training goes on without", stacklevel=2)
        return None
    return compiled


def compile_neurons(model: nn.Module) -> bool:
    """Lets the model's LIF and IF neurons run compiled passes on the CPU. Returns whether that can be."""
    if passes() is None:
        return False
    for module in model.modules():
        if hasattr(module, "leak"):
            module.fire = compiled_fire  # type: ignore[assignment]
    return True
