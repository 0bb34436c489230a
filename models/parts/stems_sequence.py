"""The stem for images read as sequences of pixels, row by row (`sequential_embed` of the BrainCog/STEP benchmark).

Shapes: x_TBCHW in, as a map of one row [T, B, C, 1, L] with L = H W inside, and 64 tokens as a map of 8 x 8 out.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, InputKind, Layer, repeat_steps, split_steps
from models.parts.stages import Stage

KERNEL = 5
LONG = 1024
"""Sequences of this length or more are halved by the first convolution too."""
SIDE = 8
TOKENS = SIDE**2


class SequentialEmbed(Layer):
    """Stem of sequences (STEP benchmark, 2025): four convolutions of the pixels in row order.

    Widths are D/8, D/4, D/2, D, each with batch norm and neurons; the end is pooled to 64 tokens. Residual sew:
    `x + BN(conv(x))`, without neurons. Residual ms: the fourth convolution has no neurons, and the position is
    `x + BN(conv(LIF(x)))`. Pooled spikes are shares of 1, so later layers of sew read real values.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.step, self.residual = config.step, config.residual
        length = config.img_size**2
        strides = (2, 2, 2, 2) if length >= LONG else (1, 2, 2, 2)
        widths = [config.in_channels, *(stage.width // share for share in (8, 4, 2, 1))]
        self.convs = nn.ModuleList(
            Conv(before, width, (1, KERNEL), stride=stride, padding=(0, KERNEL // 2 if stride == 1 else 1), bias=True,
                 fed="spikes" if i else "input")
            for i, (stride, (before, width)) in enumerate(zip(strides, itertools.pairwise(widths), strict=True))
        )  # fmt: skip
        self.bns = nn.ModuleList(BatchNorm(width) for width in widths[1:])
        self.neurons = nn.ModuleList(neuron() for _ in range(4 if self.residual == "sew" else 3))
        self.pool = nn.AdaptiveAvgPool2d((1, TOKENS))
        self.neuron = neuron() if self.residual == "ms" else None
        fed: InputKind = "real" if self.neuron is None else "spikes"
        self.position_conv = Conv(stage.width, stage.width, (1, 3), bias=True, fed=fed)
        self.position_bn = BatchNorm(stage.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(3).unsqueeze(3)
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            x = repeat_steps(bn(conv(x)), self.step)
            if i < len(self.neurons):
                x = self.neurons[i](x)
        x = split_steps(self.pool(x.flatten(0, 1)), x)
        x = x + self.position_bn(self.position_conv(x if self.neuron is None else self.neuron(x)))
        return x.reshape(*x.shape[:3], SIDE, SIDE)
