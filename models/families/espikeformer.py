"""E-SpikeFormer, the base models of Spike-driven Transformer V3 (Yao et al., TPAMI 2025).

Meta-SpikeFormer's stages with neurons between all layers, separable convolutions in the transformer blocks as well, and
E-SDSA. It is trained on integers, k of D spikes in one step (NILIFNode emits k / D, the head reads k); at inference,
k binary spikes over D virtual steps give the same outputs.

| model | widths            |
| t     | 24, 48, 96, 128   |
| s     | 32, 64, 128, 192  |
| m     | 48, 96, 192, 240  |
| l     | 64, 128, 256, 360 |
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from models.config import ModelConfig
from models.families.metaspikformer import ATTENTION, EXPANSION, meta_parts, published
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Block, Unit, Wiring
from models.parts.layers import Conv
from models.parts.pyramid import PyramidDesign
from models.parts.stages import Stage

KERNEL = 3


def separable(width: int, kernel: int, neuron: NeuronFactory, residual: str) -> nn.Module:
    """Returns a 1x1 layer to twice the width, a depthwise layer and a 1x1 layer back, each with neurons."""
    wide = EXPANSION * width
    expand = Unit(Conv(width, wide), neuron(), residual)
    spread = Unit(Conv(wide, wide, kernel, groups=wide), neuron(), residual)
    reduce = Unit(Conv(wide, width), neuron(), residual)
    return nn.Sequential(OrderedDict(expand=expand, spread=spread, reduce=reduce))


class SepBlock(Block):
    """`x = x + sep(x); x = x + attn(x); x = x + mlp(x)`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.sep = separable(stage.width, KERNEL, neuron, config.residual)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.sep(x))


KEYS = published(
    (r"^(block.*)\.sep\.", r"\1.conv."),
    (r"\.expand\.conv\.", ".pwconv1.0."),
    (r"\.expand\.bn\.", ".pwconv1.1."),
    (r"\.spread\.conv\.", ".dwconv.0."),
    (r"\.spread\.bn\.", ".dwconv.1."),
    (r"\.reduce\.conv\.", ".pwconv2.0."),
    (r"\.reduce\.bn\.", ".pwconv2.1."),
    *ATTENTION,
    (r"\.(q|k|v|proj)_conv\.(weight)$", r".\1_conv.0.\2"),
)

BASE = PyramidDesign(
    KEYS,
    Wiring(proj_bias=False, kv_first=False),
    head_neuron=True,
    head_counts=True,
    parts=partial(meta_parts, sep=separable, block=SepBlock),
)
