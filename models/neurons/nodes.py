"""SpikingJelly's neurons in multi-step mode, with fused passes over all steps.

SpikingJelly 2 defines the semantics. Hard resets go to 0 and are detached from the gradient, as in all published
spiking transformers. LIF, IF and PLIF have a fused forward and backward on the CPU (`models.neurons.fire`), all neurons
but PSN and HD-LIF have one on CUDA where Triton is installed (`models.neurons.multistep`); elsewhere SpikingJelly's
code runs, and PyTorch's for HD-LIF (`models.neurons.mixture`). Membranes are in float32 at least, and spikes have the
dtype of the currents.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from spikingjelly.activation_based import base, functional, neuron, surrogate
from torch import Tensor, nn

from models import registry
from models.config import ModelConfig
from models.neurons.fire import fire
from models.neurons.multistep import Neuron, States, applies, multistep
from models.neurons.surrogates import closed_form

HALF_DTYPES = (torch.bfloat16, torch.float16)
INTEGER_LEVELS = 4
"""D of the integer neurons: the largest number of spikes represented by one step."""


class NeuronFactory(Protocol):
    """Builds one layer of neurons, with the config's threshold by default; the attention has a separate one."""

    def __call__(self, threshold: float | None = None) -> nn.Module: ...


def surrogate_of(config: ModelConfig) -> Any:
    """Returns a new surrogate function of the config."""
    shape = {} if config.act_function in registry.WITHOUT_ALPHA else {"alpha": config.alpha}
    return registry.load(registry.SURROGATES[config.act_function])(**shape)


def neuron_factory(config: ModelConfig) -> NeuronFactory:
    """Returns the factory of all neurons of a model, so that neuron keys apply to each of them."""
    build = registry.load(registry.NEURONS[config.node_type])

    def make(threshold: float | None = None) -> nn.Module:
        layer: nn.Module = build(config, config.threshold if threshold is None else threshold, surrogate_of(config))
        if not hasattr(layer, "levels"):
            layer.levels = 1  # type: ignore[assignment]  # largest value of one step; marks a layer of neurons
        return layer

    return make


class _Neuron(base.MemoryModule):  # type: ignore[misc]  # spikingjelly has no types
    """A layer with kernels on CUDA; a subclass also derives from SpikingJelly's neuron, which is the reference."""

    name: str
    """Of the neuron, in `models.neurons.multistep`."""
    STATES: tuple[str, ...] = ("v",)
    """Names of the states that a call leaves to the next one."""
    is_carried = False
    """Whether calls follow each other without a reset, found out by the second one: then states are kept at once."""

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        kernel = self.kernel() if applies(x_seq) else None
        if kernel is not None:
            return self.launch(x_seq, kernel)
        if x_seq.dtype in HALF_DTYPES:
            return self.reference(x_seq.float()).to(x_seq.dtype)
        return self.reference(x_seq)

    def reference(self, x_seq: Tensor) -> Tensor:
        """Returns the output by SpikingJelly's code."""
        out: Tensor = super().multi_step_forward(x_seq)
        return out

    def kernel(self) -> Neuron | None:
        """Returns the constants for the kernels, or None for a surrogate function that they lack."""
        form = closed_form(self.surrogate_function)
        return None if form is None else Neuron(self.name, form.name, (*self.leak_and_threshold(), form.a, form.b))

    def leak_and_threshold(self) -> tuple[float, float]:
        """Returns tau, 1 where it has no effect, and the threshold."""
        return getattr(self, "tau", 1.0), self.v_threshold

    def learned(self, T: int) -> Tensor | None:
        """Returns the learned numbers of the neuron over T steps, for the kernels."""
        return None

    def launch(self, x_seq: Tensor, kernel: Neuron) -> Tensor:
        """Returns the output by the kernels. In training, states are computed when a next call reads them."""
        states, learned = self._carried_states(), self.learned(len(x_seq))
        keep = self.is_carried or not torch.is_grad_enabled()
        outputs, kept = multistep(x_seq, states, learned, kernel, keep_states=keep)

        def recompute() -> States:
            return multistep(x_seq, states, learned, kernel, keep_states=True)[1]

        for name, state in zip(self.STATES, kept, strict=False):
            self._memories[name] = state if keep else recompute
        return outputs

    def _carried_states(self) -> States:
        states = [self._memories[name] for name in self.STATES]
        if callable(states[0]):
            self.is_carried = True
            carried: States = states[0]()
            return carried
        v, u = (state if isinstance(state, Tensor) else None for state in (*states, None)[:2])
        return v, u


class _Fused(_Neuron):
    """A neuron with a fused pass on the CPU too."""

    fire = staticmethod(fire)  # or its compiled form, set by `models.neurons.compiled`

    def reference(self, x_seq: Tensor) -> Tensor:
        if x_seq.is_cuda:
            return super().reference(x_seq)
        v, _ = self._carried_states()
        spikes, v_last = self.fire(
            x_seq, v, self.v_threshold, self.surrogate_function, keep_v=self.is_carried, **self.leak()
        )
        self._memories["v"] = (lambda: (v_last(), None)) if callable(v_last) else v_last
        return spikes

    def leak(self) -> dict[str, Any]:
        """Returns the arguments of `fire` for the leak of the membrane."""
        return {}


class LIF(_Fused, neuron.LIFNode):  # type: ignore[misc]
    """Leaky integrate-and-fire (Gerstner and Kistler 2002), `H = V + (X - V) / tau`; spikes where `H >= threshold`."""

    name = "lif"

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def leak(self) -> dict[str, Any]:
        return {"tau": self.tau}


class IF(_Fused, neuron.IFNode):  # type: ignore[misc]
    """Integrate-and-fire without leak (Lapicque 1907), `H = V + X`, without tau."""

    name = "if"

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(threshold, 0.0, spike, detach_reset=True, step_mode="m")


class PLIF(_Fused, neuron.ParametricLIFNode):  # type: ignore[misc]
    """LIF with a learned `w = 1/tau` per layer, starting at 1/tau (Fang et al. 2021)."""

    name = "plif"

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def leak(self) -> dict[str, Any]:
        return {"decay": self.w.sigmoid()}

    def leak_and_threshold(self) -> tuple[float, float]:
        return 1.0, self.v_threshold

    def learned(self, T: int) -> Tensor:
        decay: Tensor = self.w.sigmoid()
        return decay.view(1)


class KLIF(_Neuron, neuron.KLIFNode):  # type: ignore[misc]
    """LIF with a rectified membrane scaled by a learned k, `k relu(H)`, k starting at 1 (Jiang and Zhang 2023)."""

    name = "klif"

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(False, config.tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")

    def learned(self, T: int) -> Tensor:
        k: Tensor = self.k
        return k.view(1)


class EIF(_Neuron, neuron.EIFNode):  # type: ignore[misc]
    """Exponential integrate-and-fire (Fourcaud-Trocmé et al. 2003), d = 1, r = 0.8, reset to -0.1.

    `H = V + (X - V + d exp((V - r) / d)) / tau`. Membranes start at 0, as in the BrainCog/STEP benchmark;
    SpikingJelly's start at the reset.
    """

    name = "eif"

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, 1.0, 0.8, threshold, 0.0, -0.1, spike, detach_reset=True, step_mode="m")
        self.set_reset_value("v", 0.0)
        self.v = 0.0


class CLIF(_Neuron, neuron.ComplementaryLIFNode):  # type: ignore[misc]
    """LIF with a complementary potential that preserves gradients over time (Huang et al. 2024).

    Its spikes pass gradients in training only.
    """

    name = "clif"
    STATES = ("v", "m")

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.tau, threshold, spike, step_mode="m")

    def kernel(self) -> Neuron | None:
        found = super().kernel()
        return found if found is None or self.training else found._replace(surrogate="none")


class GLIF(_Neuron, neuron.GatedLIFNode):  # type: ignore[misc]
    """LIF with learned gates between kinds of leak, reset and input, and an input gain per step (Yao et al. 2022).

    Leak and threshold are learned from the published initial values, so tau and threshold have no effect.
    SpikingJelly's version takes [B, C, H, W] only and samples from numpy; this one takes any shape and any first t of
    its steps, also in several calls.
    """

    name = "glif"
    STATES = ("v", "fired")
    GATES = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")

    v: Tensor | float
    fired: Tensor | float
    elapsed: int

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.step, surrogate_function=spike)
        self.register_memory("fired", 0.0)
        self.register_memory("elapsed", 0)
        for gate in (self.alpha, self.beta, self.gamma):
            nn.init.uniform_(gate, -0.1, 0.1)

    def gates(self) -> Tensor:
        """Returns the gates in 0..1."""
        return torch.stack([getattr(self, name) for name in self.GATES]).sigmoid()

    def conductances(self, T: int) -> Tensor:
        """Returns the input gains of the next T steps, in 0..1, or of all that are left."""
        gains: Tensor = self.conduct
        return (gains if len(gains) == T and self.elapsed == 0 else gains[self.elapsed : self.elapsed + T]).sigmoid()

    def reference(self, x_seq: Tensor) -> Tensor:
        gates = self.gates().to(x_seq.dtype).unbind()
        v, fired = (
            state if isinstance(state, Tensor) else torch.zeros_like(x_seq[0]) for state in (self.v, self.fired)
        )
        spikes = []
        for x, conduct in zip(x_seq, self.conductances(len(x_seq)), strict=False):
            fired, v = functional.gated_lif_step(x, v, fired, *gates, conduct, self.surrogate_function)
            spikes.append(fired)
        self.v, self.fired, self.elapsed = v, fired, self.elapsed + len(spikes)
        return torch.stack(spikes)

    def leak_and_threshold(self) -> tuple[float, float]:
        return 1.0, 1.0  # the kernels read the gates

    def learned(self, T: int) -> Tensor:
        return torch.cat([self.gates(), self.conductances(T)])

    def launch(self, x_seq: Tensor, kernel: Neuron) -> Tensor:
        rest = self.T - self.elapsed
        spikes = super().launch(x_seq if len(x_seq) <= rest else x_seq[:rest], kernel)
        self.elapsed += len(spikes)
        return spikes


class ILIF(_Neuron, neuron.ILIFNode):  # type: ignore[misc]
    """Integer LIF (Luo et al. 2024): `H = (1 - 1/tau) V + X`, output `k = round(clamp(H / threshold, 0, D))`.

    The reset is soft, `V = H - k threshold`. The surrogate is the identity within [0, D], without act_function, alpha.
    """

    name = "ilif"
    levels = INTEGER_LEVELS
    unit = 1.0

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        counts = surrogate.MultiLevelSpikeCount(INTEGER_LEVELS)
        super().__init__(config.tau, threshold, counts, detach_reset=True, step_mode="m")

    def kernel(self) -> Neuron:
        return Neuron(self.name, "none", (1.0 - 1.0 / self.tau, self.v_threshold, float(self.levels), self.unit))


class NILIF(ILIF):
    """Normalised integer LIF, output k / D (Lei et al. 2025); on a single step the quantiser of SDT v3."""

    unit = 1.0 / INTEGER_LEVELS

    def reference(self, x_seq: Tensor) -> Tensor:
        return super().reference(x_seq) * self.unit


class PSN(neuron.PSN):  # type: ignore[misc]
    """Parallel spiking neuron (Fang et al. 2023): `W X >= threshold`, W a learned matrix over the steps, without reset.

    The learned threshold starts at `threshold`. Steps are mixed in float32 at least.
    """

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__(config.step, spike)
        nn.init.constant_(self.bias, -threshold)

    def forward(self, x_seq: Tensor) -> Tensor:
        with torch.autocast("cuda" if x_seq.is_cuda else "cpu", enabled=False):
            mixed: Tensor = super().forward(x_seq.float() if x_seq.dtype in HALF_DTYPES else x_seq)
        return mixed.to(x_seq.dtype)
