"""E-SpikeFormer, the base models of Spike-driven Transformer V3 (Yao et al., TPAMI 2025).

Meta-SpikeFormer's stages with a neuron between all layers, separable convolutions in the transformer blocks too, and
E-SDSA. It is trained on integers, k of D spikes in one step (NILIFNode gives k / D, the head sees k), and runs on
spikes: `models.cost.binary_expansion` is that expansion.

| model | widths            |
| t     | 24, 48, 96, 128   |
| s     | 32, 64, 128, 192  |
| m     | 48, 96, 192, 240  |
| l     | 64, 128, 256, 360 |
"""

from __future__ import annotations

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


class SpikeSepConv(nn.Module):
    """1x1 to twice the width, depthwise, 1x1 back, all three fed by neurons."""

    def __init__(self, width: int, kernel: int, neuron: NeuronFactory, residual: str) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.expand = Unit(Conv(width, wide), neuron(), residual)
        self.spread = Unit(Conv(wide, wide, kernel, groups=wide), neuron(), residual)
        self.reduce = Unit(Conv(wide, width), neuron(), residual)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reduce(self.spread(self.expand(x)))
        return out


class SepBlock(Block):
    """`x = x + sep(x); x = x + attn(x); x = x + mlp(x)`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.sep = SpikeSepConv(stage.width, KERNEL, neuron, config.residual)

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
    parts=partial(meta_parts, sep=SpikeSepConv, block=SepBlock),
)
