"""SpikingJelly's neurons in multi-step mode, with a fused forward and backward on the CPU (`models.neurons.fire`).

SpikingJelly 2 defines the semantics. Hard resets go to 0 and are detached from the gradient, as in all published
spiking transformers.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from models import registry
from models.config import ModelConfig
from models.neurons.fire import fire

HALF_DTYPES = (torch.bfloat16, torch.float16)
INTEGER_LEVELS = 4
"""D of the integer neurons: the largest number of spikes represented by one step."""


class NeuronFactory(Protocol):
    """Builds one layer of neurons, with the config's threshold by default; the attention has a separate one."""

    def __call__(self, threshold: float | None = None) -> nn.Module: ...


def neuron_factory(config: ModelConfig) -> NeuronFactory:
    """Returns the factory of all neurons of a model, so that neuron keys apply to each of them."""
    build = registry.load(registry.NEURONS[config.node_type])

    def make(threshold: float | None = None) -> nn.Module:
        shape = {} if config.act_function in registry.WITHOUT_ALPHA else {"alpha": config.alpha}
        spike = registry.load(registry.SURROGATES[config.act_function])(**shape)
        layer: nn.Module = build(config, config.threshold if threshold is None else threshold, spike)
        if not hasattr(layer, "levels"):
            layer.levels = 1  # type: ignore[assignment]  # largest value of one step; marks a layer of neurons
        return layer

    return make


class _Fp32Membrane(neuron.base_node.BaseNode):  # type: ignore[misc]  # spikingjelly has no types
    """SpikingJelly's neuron with an fp32 membrane for all input dtypes.

    Its own membrane has the dtype of x, and in half precision it silently leaves its fast kernels.
    """

    def materialize_states(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], step_mode: str
    ) -> tuple[object, ...]:
        x_seq, v = inputs[0], states[0]
        if x_seq.dtype not in HALF_DTYPES or step_mode != "m":
            out: tuple[object, ...] = super().materialize_states(inputs, states, step_mode)
            return out
        if not isinstance(v, Tensor) or v.shape != x_seq.shape[1:]:
            v = torch.zeros_like(x_seq[0], dtype=torch.float32)
        return (v.float(), *states[1:])


class _Fused(_Fp32Membrane):
    """Our fused pass on the CPU, SpikingJelly's kernels on CUDA."""

    fire = staticmethod(fire)  # or its compiled form, set by `models.neurons.compiled`

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x_seq.is_cuda or x_seq.dtype in HALF_DTYPES:
            return super().multi_step_forward(x_seq, *args, **kwargs)
        v = self._memories["v"]
        spikes, self._memories["v"] = self.fire(
            x_seq, v if isinstance(v, Tensor) else None, self.v_threshold, self.surrogate_function, **self.leak()
        )
        return spikes

    def leak(self) -> dict[str, Any]:
        """Returns the arguments of `fire` for the leak of the membrane."""
        return {}


class LIF(_Fused, neuron.LIFNode):  # type: ignore[misc]
    """Leaky integrate-and-fire, `H = V + (X - V) / tau`."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def leak(self) -> dict[str, Any]:
        return {"tau": self.tau}


class IF(_Fused, neuron.IFNode):  # type: ignore[misc]
    """Integrate-and-fire without leak, `H = V + X`, without tau."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(threshold, 0.0, spike, detach_reset=True, step_mode="m")


class PLIF(_Fused, neuron.ParametricLIFNode):  # type: ignore[misc]
    """LIF with a learned 1/tau per layer, starting at 1/tau (Fang et al. 2021)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def leak(self) -> dict[str, Any]:
        return {"decay": self.w.sigmoid()}


class KLIF(neuron.KLIFNode):  # type: ignore[misc]
    """LIF with a rectified membrane scaled by a learned k, starting at 1 (Jiang and Zhang 2023)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(False, config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")


class CLIF(neuron.ComplementaryLIFNode):  # type: ignore[misc]
    """LIF with a complementary potential that preserves gradients over time (Huang et al. 2024)."""

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, threshold, spike, step_mode="m")


class GLIF(neuron.GatedLIFNode):  # type: ignore[misc]
    """LIF with learned gates between kinds of leak, reset and input, and an input gain per step (Yao et al. 2022).

    Leak and threshold are learned from the published initial values, so tau and threshold have no effect.
    SpikingJelly's version takes [B, C, H, W] only and samples from numpy; this one takes any shape and any first t of
    its steps, also in several calls.
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


class ILIF(_Fp32Membrane, neuron.ILIFNode):  # type: ignore[misc]
    """Integer LIF (Luo et al. 2024): `H = (1 - 1/tau) V + X`, output `k = round(clamp(H / threshold, 0, D))`.

    The reset is soft, `V = H - k threshold`. The surrogate is the identity within [0, D], without act_function, alpha.
    """

    levels = INTEGER_LEVELS
    unit = 1.0

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        counts = surrogate.MultiLevelSpikeCount(INTEGER_LEVELS)
        super().__init__(config.tau, threshold, counts, detach_reset=True, step_mode="m")


class NILIF(ILIF):
    """Normalised integer LIF, output k / D (Lei et al. 2025); on a single step the quantiser of SDT v3."""

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
