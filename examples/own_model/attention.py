"""Example of a custom attention: each token gets the maximum over its 3x3 neighbourhood."""

from __future__ import annotations

from torch import Tensor, nn

from models.attention.ssa import Attention, projection
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Wiring
from models.parts.layers import BatchNorm, Conv
from models.parts.stages import Stage


class Neighbours(Attention):
    """`BN(proj(max over 3x3 of LIF(BN(V x))))`, on maps [T, B, C, H, W]. It takes spikes and returns real values."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        self.v = projection(config, neuron, stage, wiring)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=1, padding=(0, 1, 1))
        self.proj_conv = Conv(stage.width, stage.width, bias=wiring.proj_bias)
        self.proj_bn = BatchNorm(stage.width)

    def mix(self, spikes: Tensor) -> Tensor:
        out: Tensor = self.proj_bn(self.proj_conv(self.pool(self.v(spikes))))
        return out
