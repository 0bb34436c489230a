"""Spiking neurons: SpikingJelly's, always multi-step, with a fused forward and backward on the CPU.

SpikingJelly 2 defines the semantics: charge `H = V + (X - V) / tau` (LIF) or `H = V + X` (IF), spike `H >= threshold`,
hard reset to 0 with the reset detached from the gradient, as all published spiking transformers have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from models import registry
from models.config import ModelConfig

FUSED_SURROGATES = (surrogate.Sigmoid, surrogate.ATan)
INTEGER_LEVELS = 4
"""D of the integer neurons: the largest number of spikes that one step stands for."""


class NeuronFactory(Protocol):
    """Makes one layer of neurons; the attention's neuron has a threshold of its own."""

    def __call__(self, threshold: float | None = None) -> nn.Module: ...


def neuron_factory(config: ModelConfig) -> NeuronFactory:
    """Returns the factory from which every neuron of a model comes, so that a neuron key reaches all of them."""
    build = registry.load(registry.NEURONS[config.node_type])

    def make(threshold: float | None = None) -> nn.Module:
        spike = registry.load(registry.SURROGATES[config.act_function])(alpha=config.alpha)
        layer = build(config, config.threshold if threshold is None else threshold, spike)
        assert isinstance(layer, nn.Module)
        if not hasattr(layer, "levels"):
            layer.levels = 1  # type: ignore[assignment]  # largest value of one step; what marks a layer of neurons
        return layer

    return make


class _FusedFire(torch.autograd.Function):
    """T steps of charge, fire and hard reset in one autograd node; `tau=None` integrates without leak.

    Same operations in the same order as SpikingJelly's reference, hence the same spikes to the bit.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v: Tensor, tau: float | None, threshold: float, spike: Any
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        over = torch.empty_like(spikes)
        for t in range(x.shape[0]):
            h = v + x[t] if tau is None else (x[t] - v).div_(tau).add_(v)
            torch.sub(h, threshold, out=over[t])
            torch.ge(over[t], 0.0, out=spikes[t])
            v = torch.addcmul(h, h, spikes[t], value=-1.0)  # h where it did not fire, else 0
        ctx.save_for_backward(over, spikes)
        ctx.tau, ctx.derivative = tau, _derivative(spike)
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        over, spikes = ctx.saved_tensors
        grad_h = ctx.derivative(over).mul_(grads[0])
        keep = 1.0 - spikes
        carry: Tensor | None = None
        for t in reversed(range(grad_h.shape[0])):
            if carry is not None:
                grad_h[t].addcmul_(carry, keep[t])
            carry = grad_h[t] if ctx.tau is None else grad_h[t] * (1.0 - 1.0 / ctx.tau)
        return (grad_h if ctx.tau is None else grad_h.div_(ctx.tau)), None, None, None, None


def _derivative(spike: Any) -> Callable[[Tensor], Tensor]:
    """Returns the surrogate's derivative, by the formulas of SpikingJelly's Sigmoid and ATan."""
    alpha = spike.alpha
    if isinstance(spike, surrogate.Sigmoid):

        def sigmoid(x: Tensor) -> Tensor:
            s = (x * alpha).sigmoid_()
            return torch.sub(1.0, s).mul_(s).mul_(alpha)

        return sigmoid
    return lambda x: (x * (torch.pi / 2 * alpha)).square_().add_(1.0).reciprocal_().mul_(alpha / 2)


class _Fused(neuron.base_node.BaseNode):  # type: ignore[misc]  # spikingjelly has no types
    """The CPU path of a SpikingJelly neuron; elsewhere, or with other surrogates, SpikingJelly's own kernels run."""

    fused_tau: float | None

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x_seq.is_cuda:
            return super().multi_step_forward(x_seq.float(), *args, **kwargs)  # half precision loses the fast kernel
        if type(self.surrogate_function) not in FUSED_SURROGATES:
            return super().multi_step_forward(x_seq, *args, **kwargs)
        (v,) = self.materialize_states((x_seq,), (self._memories["v"],), "m")
        fire: Any = _FusedFire.apply
        spikes, self._memories["v"] = fire(x_seq, v, self.fused_tau, self.v_threshold, self.surrogate_function)
        return spikes


class LIF(_Fused, neuron.LIFNode):  # type: ignore[misc]
    """Leaky integrate-and-fire, `H = V + (X - V) / tau`."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")
        self.fused_tau = config.tau


class IF(_Fused, neuron.IFNode):  # type: ignore[misc]
    """Integrate-and-fire without leak, `H = V + X`; it has no tau."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(threshold, 0.0, spike, detach_reset=True, step_mode="m")
        self.fused_tau = None


class PLIF(neuron.ParametricLIFNode):  # type: ignore[misc]
    """LIF whose 1/tau is learned per layer, starting at 1/tau (Fang et al. 2021)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().multi_step_forward(x_seq.float() if x_seq.is_cuda else x_seq, *args, **kwargs)


class KLIF(neuron.KLIFNode):  # type: ignore[misc]
    """LIF whose rectified membrane is scaled by a learned k, starting at 1 (Jiang and Zhang 2023)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(False, config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")


class CLIF(neuron.ComplementaryLIFNode):  # type: ignore[misc]
    """LIF with a second, complementary potential through which gradients last (Huang et al. 2024)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, threshold, spike, step_mode="m")


class GLIF(neuron.GatedLIFNode):  # type: ignore[misc]
    """LIF with learned gates between kinds of leak, reset and input, the input's gain per step (Yao et al. 2022).

    Leak and threshold are learned from the published start; it has no tau and no threshold to choose. SpikingJelly's
    holds [B, C, H, W] only and draws from numpy; this one takes any shape, any first t of its steps, in pieces too.
    """

    v: Tensor | float
    fired: Tensor | float
    elapsed: int

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.step, surrogate_function=spike)
        self.register_memory("fired", 0.0)
        self.register_memory("elapsed", 0)
        for gate in (self.alpha, self.beta, self.gamma):
            nn.init.uniform_(gate, -0.1, 0.1)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        names = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
        gates = [getattr(self, name).sigmoid() for name in names]
        v, fired = (
            state if isinstance(state, Tensor) else torch.zeros_like(x_seq[0]) for state in (self.v, self.fired)
        )
        spikes = []
        for x, conduct in zip(x_seq, self.conduct[self.elapsed :].sigmoid(), strict=False):
            fired, v = functional.gated_lif_step(x, v, fired, *gates, conduct, self.surrogate_function)
            spikes.append(fired)
        self.v, self.fired, self.elapsed = v, fired, self.elapsed + len(spikes)
        return torch.stack(spikes)


class ILIF(neuron.ILIFNode):  # type: ignore[misc]
    """Integer LIF (Luo et al. 2024): `H = (1 - 1/tau) V + X`, gives `k = round(clamp(H / threshold, 0, D))`.

    Its reset is soft, `V = H - k threshold`. The surrogate is the identity within [0, D]: no act_function, no alpha.
    """

    levels = INTEGER_LEVELS
    unit = 1.0

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        counts = surrogate.MultiLevelSpikeCount(INTEGER_LEVELS)
        super().__init__(config.tau, threshold, counts, detach_reset=True, step_mode="m")

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().multi_step_forward(x_seq.float() if x_seq.is_cuda else x_seq, *args, **kwargs)


class NILIF(ILIF):
    """Normalised integer LIF, gives k / D (Lei et al. 2025); on a single step the quantiser of SDT v3."""

    unit = 1.0 / INTEGER_LEVELS

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().multi_step_forward(x_seq, *args, **kwargs) * self.unit


class PSN(neuron.PSN):  # type: ignore[misc]
    """Parallel spiking neuron: a learned matrix over the steps, without reset (Fang et al. 2023).

    The learned threshold starts at `threshold`.
    """

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.step, spike)
        nn.init.constant_(self.bias, -threshold)
