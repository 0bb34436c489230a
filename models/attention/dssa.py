"""Dual Spike Self-Attention of SpikingResformer (Shi et al., CVPR 2024): each product has one spike operand."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.ssa import Attention
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Wiring
from models.parts.layers import BatchNorm, Conv, SpikeMatmul, scaled
from models.parts.stages import Stage

RATE_MOMENTUM = 0.999
INITIAL_RATE = 0.05
"""The assumed firing rate before the first measurement. It is low, so that an untrained model fires."""


class DSSA(Attention):
    """`A = LIF(c1 Y1^T S)`, `BN(proj(LIF(c2 Y2 A)))` with `[Y1, Y2] = BN(patches(S))` of each head.

    S are the block's spikes, [d, N] per head; Y1 and Y2 are real, [d, M], with M = N / p^2 patches of side p. The
    scales `c1 = 1 / sqrt(f_S d)` and `c2 = 1 / sqrt(f_A M)` normalise the products' variance; f are running firing
    rates of each head.
    """

    rate_s: Tensor
    rate_a: Tensor

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        width = stage.width
        self.num_heads = stage.num_heads
        self.patches = Conv(width, 2 * width, stage.shrink, stride=stage.shrink, padding=0)
        self.bn = BatchNorm(2 * width)
        self.inner, self.outer = SpikeMatmul("real", "spikes"), SpikeMatmul("real", "spikes")
        self.map_neuron = neuron(config.attn_threshold)
        self.attn_neuron = neuron(config.attn_threshold)
        self.proj_conv = Conv(width, width, bias=wiring.proj_bias)
        self.proj_bn = BatchNorm(width)
        for name in ("rate_s", "rate_a"):
            self.register_buffer(name, torch.zeros(1, 1, self.num_heads, 1, 1))

    def mix(self, spikes: Tensor) -> Tensor:
        y1, y2 = self._heads(self.bn(self.patches(spikes))).chunk(2, dim=3)
        s = self._heads(spikes)
        map_NM = scaled(self.inner(y1.transpose(3, 4), s), self._scale(self.rate_s, s, s.shape[3]))
        attention = self.map_neuron(map_NM)
        mixed = scaled(self.outer(y2, attention), self._scale(self.rate_a, attention, y2.shape[4]))
        return self.proj_bn(self.proj_conv(self.attn_neuron(mixed.reshape(spikes.shape))))

    def _heads(self, x_TBCHW: Tensor) -> Tensor:
        """Returns [T, B, H, C / H, N]."""
        return x_TBCHW.reshape(*x_TBCHW.shape[:2], self.num_heads, x_TBCHW.shape[2] // self.num_heads, -1)

    def _scale(self, rate: Tensor, spikes: Tensor, terms: int) -> Tensor:
        """Returns `1 / sqrt(rate x terms)`; training updates the running rate, which starts at the first batch's."""
        if self.training:
            now = spikes.detach().mean((0, 1, 3, 4), keepdim=True)
            start = torch.where(rate.any(), rate, now)
            rate.copy_(start * RATE_MOMENTUM + now * (1 - RATE_MOMENTUM))
        return 1.0 / torch.sqrt(torch.where(rate > 0, rate, INITIAL_RATE) * terms)
