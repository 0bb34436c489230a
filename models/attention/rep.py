"""Attentions of Spike-driven Transformer V2 and V3: SSA's products with other layers for Q, K, V and the output."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.ssa import SSA
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import BatchNorm, Conv, Stack
from models.parts.stages import Stage

V_RATIO = 4
V3_GAIN = 2.0


class RepConv(Stack):
    """1x1, batch norm, depthwise 3x3, 1x1, batch norm without neurons between them; they merge into one layer.

    The depthwise layer's padding is the first batch norm's output for zero, as in the merged layer. `gain` is a factor
    on the input, applied after the first layer so that this one reads spikes.
    """

    def __init__(self, width: int, gain: float = 1.0) -> None:
        super().__init__()
        self.out_channels, self.gain = width, gain
        self.conv = Conv(width, width)
        self.bn = BatchNorm(width)
        self.depthwise = Conv(width, width, 3, padding=0, groups=width, fed="real")
        self.pointwise = Conv(width, width, fed="real")
        self.bn_out = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self._padded(self.bn(x if self.gain == 1.0 else x * self.gain))
        return self.bn_out(self.pointwise(self.depthwise(x)))

    def _padded(self, x_TBCHW: Tensor) -> Tensor:
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        zero = bn.bias.detach() - bn.running_mean * bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        *outer, height, width = x_TBCHW.shape
        padded = zero[:, None, None].expand(*outer, height + 2, width + 2).clone()
        padded[..., 1:-1, 1:-1] = x_TBCHW
        return padded


class SDSAv2(SSA):
    """SDSA-3 of Meta-SpikeFormer (Yao et al., ICLR 2024): SSA whose 1x1 layers are RepConv."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.q, self.k, self.v = (Unit(RepConv(stage.width), neuron(), "sew") for _ in range(3))
        self.proj_conv = RepConv(stage.width, wiring.attention_gain)


class SDSAv3(SSA):
    """E-SDSA of E-SpikeFormer (Yao et al. 2025): SSA with a V four times as wide and twice the scale."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        wide = V_RATIO * stage.width
        self.v = Unit(Conv(stage.width, wide, bias=wiring.qkv_bias), neuron(), "sew")
        self.proj_conv = Conv(wide, stage.width, bias=wiring.proj_bias)
        if isinstance(self.scale, float):
            self.scale *= V3_GAIN
