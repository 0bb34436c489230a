"""Charge, fire and hard reset over all T steps, as one autograd node on the CPU: LIF, IF and PLIF.

Semantics and order of operations are those of SpikingJelly's reference, so the spikes are equal to the bit:
`H = V + (X - V) / tau` (LIF), `H = V + (X - V) * decay` (PLIF) or `H = V + X` (IF); `S = H >= threshold`; V is H where
S is 0, else 0, with the reset detached from the gradient.

Two techniques make it fast. It processes blocks of neurons that fit into the cache for all T steps. Membranes are
stored negated (`low` is -H), because ATen's `threshold` (x where larger, else 0) is then the reset, and its backward is
the reset's mask on the gradient, in one pass each. Only `low` is saved for the backward pass, which overwrites it by
the gradient, since new memory costs more than arithmetic. Therefore the backward pass can run once; PyTorch refuses a
second one (`retain_graph=True`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 2**18
"""Values in one block, T x neurons: a megabyte in float32. Smaller blocks cost more calls than they save."""

CLOSED_FORMS: dict[type[nn.Module], Literal["sigmoid", "atan"]] = {
    surrogate.Sigmoid: "sigmoid",
    surrogate.ATan: "atan",
}
"""Surrogates whose derivative is written out in the fused passes."""

Charge = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Writes -H of one step, given X, -V before it and the output tensor."""

aten = torch.ops.aten


def fire(
    x: Tensor,
    v: Tensor | None,
    threshold: float,
    spike: Any,
    *,
    tau: float | None = None,
    decay: Tensor | None = None,
    keep_v: bool = True,
) -> tuple[Tensor, Tensor | Callable[[], Tensor]]:
    """Returns the spikes [T, ...] of the currents x [T, ...], and the membranes after the last step.

    `v` is None at rest; `decay` is PLIF's learned 1/tau; without decay and tau there is no leak. `spike` is a surrogate
    function of SpikingJelly. Gradients flow through the membranes, from call to call, as in a loop over steps. Without
    `keep_v`, a training gets a function that returns the membranes, to be called before the backward pass if at all.
    """
    apply: Any = _Fire.apply
    membranes = _Membranes(keep_v or not torch.is_grad_enabled())
    spikes, v_last = apply(x, v, decay, tau, threshold, spike, membranes)
    if membranes.are_written:
        return spikes, v_last

    def written() -> Tensor:
        membranes.write(v_last)
        return v_last  # type: ignore[no-any-return]

    return spikes, written


class _Membranes:
    """The membranes after the last step, written during the forward pass or when they are read first."""

    def __init__(self, are_written: bool) -> None:
        self.are_written = are_written
        self.low: Tensor | None = None
        """Of the last step, where membranes are written later."""
        self.threshold = 0.0

    def write(self, v_last: Tensor) -> None:
        if not self.are_written:
            assert self.low is not None
            out = v_last.detach().flatten()
            aten.threshold.out(self.low, -self.threshold, 0.0, out=out)
            out.neg_()
        self.are_written, self.low = True, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor | None,
        decay: Tensor | None,
        tau: float | None,
        threshold: float,
        spike: Any,
        membranes: _Membranes,
    ) -> tuple[Tensor, Tensor]:
        x_TN = x.flatten(1)
        T, N = x_TN.shape
        needs_grad = any(ctx.needs_input_grad)
        membranes.are_written |= not needs_grad
        low_TN = x.new_empty(T, N if needs_grad else max(1, BLOCK // T))
        spikes_TN, v_last = x.new_empty(T, N), x.new_empty(x.shape[1:])
        low_v = v_last.view(-1)
        if v is not None:
            torch.neg(v.flatten(), out=low_v)
        charge = _charge(x, tau, decay)
        for part in _blocks(T, N):
            low, state = low_TN[:, part if needs_grad else slice(part.stop - part.start)], low_v[part]
            for t, current in enumerate(x_TN[:, part]):
                if t == 0 and v is None:
                    _charge_at_rest(current, tau, decay, out=low[0])
                else:
                    charge(current, state, low[t])
                if t < T - 1 or membranes.are_written:
                    aten.threshold.out(low[t], -threshold, 0.0, out=state)
            torch.le(low, -threshold, out=spikes_TN[:, part])
        ctx.save_for_backward(low_TN, decay, v)
        ctx.tau, ctx.threshold, ctx.spike, ctx.shape = tau, threshold, spike, x.shape
        ctx.set_materialize_grads(False)  # membranes that no further step reads have no gradient
        if membranes.are_written:
            low_v.neg_()
        else:
            membranes.low, membranes.threshold = low_TN[-1], threshold
        return spikes_TN.view(x.shape), v_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_v: Tensor | None) -> tuple[Tensor | None, ...]:
        low_TN, decay, v = ctx.saved_tensors
        rate = 1.0 / ctx.tau if ctx.tau is not None else 1.0 if decay is None else float(decay)
        leak = 1.0 - rate if ctx.tau is not None or decay is not None else 1.0
        grad_TN = torch.zeros_like(low_TN) if grad is None else grad.flatten(1)
        grad_low_v = None if grad_v is None else grad_v.flatten()
        grad_first = low_TN.new_empty(low_TN.shape[1]) if ctx.needs_input_grad[1] else None
        decay_grad = torch.zeros((), dtype=torch.float64)
        for part in _blocks(*low_TN.shape):
            low = low_TN[:, part]
            grad_h, gain = _through_spike(ctx.spike, grad_TN[:, part], low, ctx.threshold)
            after = None if grad_low_v is None else grad_low_v[part] / gain
            _through_steps(grad_h, low, after, ctx.threshold, leak)
            if grad_first is not None:
                torch.mul(grad_h[0], gain * leak, out=grad_first[part])
            if decay is not None:
                before = None if v is None else v.flatten()[part]
                decay_grad += _decay_gradient(grad_h, low, before, ctx.threshold) * (gain / rate)
            torch.mul(grad_h, gain * rate, out=low)
        grads = low_TN.view(ctx.shape), None if grad_first is None else grad_first.view(ctx.shape[1:])
        return *grads, None if decay is None else decay_grad.to(decay), None, None, None, None


def _blocks(T: int, N: int) -> Iterator[slice]:
    size = max(1, BLOCK // T)
    for start in range(0, N, size):
        yield slice(start, min(N, start + size))


def _charge(x: Tensor, tau: float | None, decay: Tensor | None) -> Charge:
    """Returns the charge of the neuron on negated membranes."""
    if decay is not None:
        return lambda current, low_v, out: _charge_by_decay(current, low_v, decay, out)
    if tau is None:
        return lambda current, low_v, out: torch.sub(low_v, current, out=out)
    divisor = x.new_tensor(tau)
    return lambda current, low_v, out: torch.addcdiv(
        low_v, torch.add(current, low_v, out=out), divisor, value=-1.0, out=out
    )


def _charge_by_decay(current: Tensor, low_v: Tensor, decay: Tensor, out: Tensor) -> Tensor:
    return torch.sub(low_v, torch.add(current, low_v, out=out).mul_(decay), out=out)


def _charge_at_rest(current: Tensor, tau: float | None, decay: Tensor | None, out: Tensor) -> None:
    if decay is not None:
        torch.mul(current, -decay, out=out)
    elif tau is not None:
        torch.div(current, -tau, out=out)
    else:
        torch.neg(current, out=out)


def _through_steps(grad_h: Tensor, low: Tensor, after: Tensor | None, threshold: float, leak: float) -> None:
    """Adds to the gradient of each step's H that of the step after, through leak and reset; `after` is the last V's."""
    masked = torch.empty_like(grad_h[0])
    if after is not None:
        grad_h[-1].add_(aten.threshold_backward(after, low[-1], -threshold))
    for t in reversed(range(len(low) - 1)):
        aten.threshold_backward.grad_input(grad_h[t + 1], low[t], -threshold, grad_input=masked)
        grad_h[t].add_(masked, alpha=leak)


def _through_spike(spike: Any, grad: Tensor, low: Tensor, threshold: float) -> tuple[Tensor, float]:
    """Returns a new tensor and a number whose product is grad times the surrogate's derivative at x = H - threshold.

    Sigmoid: `alpha s (1 - s)` with `s = sigmoid(alpha x)`; ATan: `alpha / 2 / (1 + (pi / 2 alpha x)^2)`; both are even.
    """
    if type(spike) is surrogate.Sigmoid:
        s = torch.add(low.new_tensor(spike.alpha * threshold), low, alpha=spike.alpha).sigmoid_()
        return aten.sigmoid_backward.grad_input(grad, s, grad_input=s), spike.alpha
    if type(spike) is surrogate.ATan:
        slope = torch.pi / 2 * spike.alpha
        u = torch.add(low.new_tensor(slope * threshold), low, alpha=slope)
        return torch.div(grad, u.square_().add_(1.0), out=u), spike.alpha / 2
    with torch.enable_grad():
        over = (low + threshold).neg_().requires_grad_()
        (through,) = torch.autograd.grad(spike(over), over, grad)
    return through, 1.0


def _decay_gradient(grad_h: Tensor, low: Tensor, v: Tensor | None, threshold: float) -> Tensor:
    """Returns the sum of grad_h (H - V) over a block, with V before each step; X - V is (H - V) / decay."""
    change = low.neg()
    change[1:] += aten.threshold(low[:-1], -threshold, 0.0)
    if v is not None:
        change[0] -= v
    return change.mul_(grad_h).sum(dtype=torch.float64)
