"""Stems of one convolution: SpikingResformer's prologue, and the first layer of Spike-driven Transformer V2 and V3."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, MaxPool
from models.parts.stages import Stage
from models.parts.stems import AddPosition, repeat_steps


class Prologue(nn.Module):
    """Convolution, batch norm, poolings: 3x3 where the map keeps its size, else 7x7 of stride 2 and pools for the rest.

    It ends in membranes (ms) or in neurons (sew). Event frames of two polarities get their sum as a third channel where
    three are asked for, as SpikingResformer's code does.
    """

    bias: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        kernel, stride = (7, 2) if stage.reduction > 1 else (3, 1)
        self.step = config.step
        self.input_channels = (3, 2) if config.in_channels == 3 else (config.in_channels,)
        self.conv = Conv(config.in_channels, stage.width, kernel, stride=stride, bias=self.bias, fed="input")
        self.bn = BatchNorm(stage.width)
        self.pool = nn.Sequential(*(MaxPool() for _ in range(stage.reduction.bit_length() - 2)))
        self.neuron = neuron() if config.residual == "sew" else nn.Identity()
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.input_channels[0]:
            x = torch.cat((x, x.sum(2, keepdim=True)), 2)
        fired = self.neuron(repeat_steps(self.pool(self.bn(self.conv(x))), self.step))
        out: Tensor = self.add_position(fired)
        return out


class Encode(Prologue):
    """The same with a bias."""

    bias: ClassVar[bool] = True
