"""Attentions without V: Q-K attention of QKFormer, and the depthwise mixers of Max-Former."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.attention.ssa import Attention, merge_heads, projection, split_heads
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Wiring
from models.parts.layers import BatchNorm, Conv, SpikeMask, SpikeSum
from models.parts.stages import Stage


class QKTA(Attention):
    """Q-K token attention (Zhou et al. 2024): `BN(proj(k * LIF(sum of q over a head's channels)))`: masks tokens."""

    summed_axis: ClassVar[int] = 4  # of x_TBHNd: the channels of a head

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        self.num_heads = stage.num_heads
        self.q, self.k = (projection(config, neuron, stage, wiring) for _ in range(2))
        self.sum = SpikeSum(self.summed_axis)
        self.mask = SpikeMask("left")
        self.add_projection(config, neuron, stage, wiring)

    def mix(self, spikes: Tensor) -> Tensor:
        q, k = (split_heads(part(spikes), self.num_heads) for part in (self.q, self.k))
        mask = self.attn_neuron(self.drop(self.sum(q)))
        return self.proj_bn(self.proj_conv(merge_heads(self.mask(k, mask), like=spikes)))


class QKCA(QKTA):
    """Q-K channel attention (Zhou et al. 2024): QKTA whose sum runs over the tokens, so that it masks channels."""

    summed_axis: ClassVar[int] = 3

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.num_heads = 1  # each channel has a mask value


class DWC3(Attention):
    """Depthwise 3x3 convolution in place of an attention (Fang et al. 2025), `BN(DW(s))`: keeps high frequencies."""

    kernel: ClassVar[int] = 3

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        self.conv = Conv(stage.width, stage.width, self.kernel, groups=stage.width, bias=True)
        self.bn = BatchNorm(stage.width)

    def mix(self, spikes: Tensor) -> Tensor:
        return self.bn(self.conv(spikes))


class DWC5(DWC3):
    """Depthwise 5x5 convolution in place of an attention (Fang et al. 2025)."""

    kernel: ClassVar[int] = 5


class DWC7(DWC3):
    """Depthwise 7x7 convolution in place of an attention (Fang et al. 2025)."""

    kernel: ClassVar[int] = 7
