"""Multi-scale spiking attention of MSViT (Hua et al., IJCAI 2025): Q-K token attention with a third branch."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from models.attention.qk import QKTA
from models.attention.ssa import merge_heads, split_heads
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import Conv, SpikeSum
from models.parts.stages import Stage


class MSSA(QKTA):
    """`BN(proj(k * LIF(sum of q + sum of p)))`, each sum over a head's channels.

    p is a convolution along the line of all tokens, which leads from the end of a row of the map to the start of the
    next, with batch norm and neurons.
    """

    kernel: ClassVar[int] = 3
    sums_p: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        conv = Conv(stage.width, stage.width, (1, self.kernel), bias=wiring.qkv_bias)
        self.p = Unit(conv, neuron(), "sew")
        self.sum_p = SpikeSum(self.summed_axis) if self.sums_p else None

    def mix(self, spikes: Tensor) -> Tensor:
        q, k = (split_heads(part(spikes), self.num_heads) for part in (self.q, self.k))
        line = spikes.flatten(3).unsqueeze(3)
        p = split_heads(self.p(line), self.num_heads)
        mask = self.attn_neuron(self.drop(self.sum(q) + (p if self.sum_p is None else self.sum_p(p))))
        return self.proj_bn(self.proj_conv(merge_heads(self.mask(k, mask), like=spikes)))


class MSSAPointwise(MSSA):
    """MSSA as in MSViT's file for CIFAR-100: p is a 1x1 layer whose spikes are not summed: each channel has a mask."""

    kernel: ClassVar[int] = 1
    sums_p: ClassVar[bool] = False
