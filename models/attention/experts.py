"""Spiking experts mixture mechanism, SEMM (Zhou et al., NeurIPS 2024): attention and MLP whose experts fire in sums.

Both replace the softmax gate of a mixture of experts by spikes: a router's spike lets an expert's spikes pass, and the
passed ones add up.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.attention.ssa import Attention, attention_scale, merge_heads, split_heads
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory, neuron_factory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import BatchNorm, Conv, SpikeMask, SpikeMatmul, scaled
from models.parts.stages import Stage

PLAIN_LIF = {"node_type": "LIFNode", "tau": 2.0, "threshold": 1.0, "act_function": "sigmoid", "alpha": 4.0}
"""Neurons of the benchmark's experts, whatever its train file says."""
KERNEL = 3


class UnnormedUnit(Unit):
    """A layer and its neurons, with a batch norm that is never used."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.neuron(self.conv(x))
        return out


class EMSA(Attention):
    """Expert mixture spiking attention: `BN(proj(sum_e w_e * LIF((Q_e K^T) V * scale)))`.

    The E experts have Q of `expert_dim` channels each and share K, of as many, and V, of all channels. The router
    `w = LIF(BN(x W))` has a spike per expert and token; the sum is in 0..E.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        width, dim, count = stage.width, config.expert_dim, config.num_expert
        of_expert = neuron_factory(config.model_copy(update=PLAIN_LIF)) if wiring.scrambled_router else neuron
        unit = Unit if wiring.kv_norm else UnnormedUnit
        self.num_heads = 1  # of one model
        self.num_expert = count
        self.is_scrambled = wiring.scrambled_router
        self.scale = dim**-0.5 if config.attn_scale == "head_dim" else attention_scale(config, stage)
        self.k = unit(Conv(width, dim, bias=wiring.qkv_bias), neuron(), "sew")
        self.v = unit(Conv(width, width, bias=wiring.qkv_bias), neuron(), "sew")
        self.router = Unit(Conv(width, count, bias=True), neuron(), "sew")
        self.experts = nn.ModuleList(
            Unit(Conv(width, dim, bias=wiring.qkv_bias), of_expert(), "sew") for _ in range(count)
        )
        shares_kv = wiring.kv_first
        self.inner = nn.ModuleList(SpikeMatmul("spikes", "spikes") for _ in range(1 if shares_kv else count))
        self.outer = nn.ModuleList(
            SpikeMatmul("spikes", "real") if shares_kv else SpikeMatmul("real", "spikes") for _ in range(count)
        )
        self.attn_neurons = nn.ModuleList(neuron(config.attn_threshold) for _ in range(count))
        self.gates = nn.ModuleList(SpikeMask("passed") for _ in range(count))
        self.drop = nn.Dropout(config.attn_drop)
        self.proj_conv = Conv(width, width, bias=wiring.proj_bias)
        self.proj_bn = BatchNorm(width)

    def mix(self, spikes: Tensor) -> Tensor:
        k, v = (split_heads(part(spikes), self.num_heads) for part in (self.k, self.v))
        queries = [split_heads(expert(spikes), self.num_heads) for expert in self.experts]
        products, weights = self._products(queries, k, v), self._weights(spikes)
        parts = zip(products, self.attn_neurons, self.gates, weights, strict=True)
        passed = [gate(fire(self.drop(scaled(product, self.scale))), weight) for product, fire, gate, weight in parts]
        mixed: Tensor = sum(passed[1:], passed[0])
        return self.proj_bn(self.proj_conv(merge_heads(mixed, like=spikes)))

    def _products(self, queries: list[Tensor], k: Tensor, v: Tensor) -> list[Tensor]:
        """Returns Q_e K^T V of each expert, [T, B, 1, N, C]."""
        if len(self.inner) < len(queries):
            shared = self.inner[0](k.transpose(3, 4), v)
            return [outer(q, shared) for outer, q in zip(self.outer, queries, strict=True)]
        layers = zip(self.inner, self.outer, queries, strict=True)
        return [outer(inner(q, k.transpose(3, 4)), v) for inner, outer, q in layers]

    def _weights(self, spikes: Tensor) -> tuple[Tensor, ...]:
        """Returns the router's spikes for each expert, [T, B, 1, N, 1]."""
        routed = self.router(spikes)
        T, B, _, H, W = routed.shape
        if self.is_scrambled:
            weights = routed.reshape(T, B, self.num_heads, H * W, self.num_expert)
        else:
            weights = routed.reshape(T, B, self.num_heads, self.num_expert, H * W).transpose(3, 4)
        split: tuple[Tensor, ...] = weights.split(1, 4)  # type: ignore[no-untyped-call]  # torch has no types for it
        return split


class EMSP(Attention):
    """Expert mixture spiking perceptron, an MLP: `BN(fc2(LIF(BN(DW(a))) * b))` with `[a, b] = LIF(BN(fc1(x)))`.

    DW is a depthwise 3x3 layer; the halves a and b of the hidden layer are the experts and their router.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        hidden, half = stage.hidden, stage.hidden // 2
        self.num_heads = 1  # of one model
        self.fc1 = Unit(Conv(stage.width, hidden, bias=wiring.mlp_bias), neuron(), "sew")
        self.depthwise = Unit(Conv(half, half, KERNEL, groups=half, bias=wiring.expert_bias), neuron(), "sew")
        self.gate = SpikeMask("passed")
        self.fc2_conv = Conv(half, stage.width, bias=wiring.mlp_bias)
        self.fc2_bn = BatchNorm(stage.width)
        self.drop = nn.Dropout(config.mlp_drop)

    def mix(self, spikes: Tensor) -> Tensor:
        hidden = self.fc1(spikes)
        T, B, _, H, W = hidden.shape
        halves = hidden.reshape(T, B, self.num_heads, 2, -1, H, W)
        experts, router = (halves[:, :, :, i].flatten(2, 3) for i in (0, 1))
        out: Tensor = self.drop(self.fc2_bn(self.fc2_conv(self.gate(self.depthwise(experts), router))))
        return out
