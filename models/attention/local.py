"""Local parts of SGLFormer (Zhang et al. 2024): self-attention within groups of pixels, and convolutions."""

from __future__ import annotations

from torch import Tensor

from config.errors import ConfigError
from models.attention.ssa import SSA
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import Conv, Layer
from models.parts.stages import Stage

DILATION = 2
"""Pixels between the tokens of a group."""
EXPANSION = 4
KERNEL = 3


def split_groups(x_TBCHW: Tensor) -> Tensor:
    """Returns the groups of pixels whose row and column agree modulo 2, [T, 4 B, C, H / 2, W / 2].

    The groups of an image follow each other, in the order of (row, column) modulo 2.
    """
    T, B, C, H, W = x_TBCHW.shape
    if H % DILATION or W % DILATION:
        raise ConfigError(f"LSSA takes every second row and column: the map must have even sides (got {H} x {W})")
    grid = x_TBCHW.reshape(T, B, C, H // DILATION, DILATION, W // DILATION, DILATION)
    return grid.permute(0, 1, 4, 6, 2, 3, 5).reshape(T, -1, C, H // DILATION, W // DILATION)


def merge_groups(x: Tensor, like: Tensor) -> Tensor:
    """Undoes `split_groups` of a map with the shape of `like`."""
    T, B, C, H, W = like.shape
    grid = x.view(T, B, DILATION, DILATION, C, H // DILATION, W // DILATION)
    return grid.permute(0, 1, 4, 5, 2, 6, 3).reshape(like.shape)


class LSSA(SSA):
    """Local spiking self-attention: SSA within each of four dilated groups of pixels, which span the whole map."""

    def forward(self, x: Tensor) -> Tensor:
        return merge_groups(super().forward(split_groups(x)), like=x)


class LocalConv(Layer):
    """The local convolution block: `u = x + DW(x); u + reduce(DW(expand(u)))`, where the block adds x once more.

    DW are depthwise 3x3 layers; the second one has four times the width.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        width, wide, residual = stage.width, EXPANSION * stage.width, config.residual
        self.spread = Unit(Conv(width, width, KERNEL, groups=width), neuron(), residual)
        self.expand = Unit(Conv(width, wide), neuron(), residual)
        self.depthwise = Unit(Conv(wide, wide, KERNEL, groups=wide), neuron(), residual)
        self.reduce = Unit(Conv(wide, width), neuron(), residual)

    def forward(self, x: Tensor) -> Tensor:
        u = x + self.spread(x)
        return u + self.reduce(self.depthwise(self.expand(u)))
