"""Meta-SpikeFormer, Spike-driven Transformer V2 (Yao et al., ICLR 2024).

Four stages with membrane shortcuts: two of separable and dense convolutions, two of transformer blocks. A convolution
with bias embeds each map; the first stage also has blocks at half its width. Layers without neurons between them, such
as depthwise and pointwise, merge into one at inference.

| model | widths             | depths   |
| 15M   | 64, 128, 256, 360  | 1, 2, 6, 2 |
| 8-384 | 96, 192, 384, 480  | 1, 2, 6, 2 |
| 8-512 | 128, 256, 512, 640 | 1, 2, 6, 2 |
| 8-768 | 192, 384, 768, 960 | 1, 2, 6, 2 |

And QSD-Transformer, Quantized Spike-driven Transformer (Qiu et al., ICLR 2025): the same with weights of 4 bits,
neurons of 4 levels on one step (IELIFNode at threshold 1/4), and a learned scale per channel of each branch of a
transformer block; 8-256 has the widths 48, 96, 192, 256. The spikes after the attention count twice.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Block, Unit, Wiring, blocks
from models.parts.layers import Conv, Layer, Stack
from models.parts.published_keys import NONE, PublishedKeys, Rule
from models.parts.pyramid import Parts, PyramidDesign, stem
from models.parts.stages import Stage, stages, stem_stage

Separable = Callable[[int, int, NeuronFactory, str], nn.Module]
"""Builds a separable convolution from width, kernel, neurons and `residual`."""

KERNEL = 7
EXPANSION = 2


class DepthwisePointwise(Stack):
    """A depthwise convolution and a 1x1 convolution, without neurons between them."""

    def __init__(self, width_in: int, width_out: int, kernel: int) -> None:
        super().__init__()
        self.out_channels = width_out
        self.depthwise = Conv(width_in, width_in, kernel, groups=width_in)
        self.pointwise = Conv(width_in, width_out, fed="real")

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def separable(width: int, kernel: int, neuron: NeuronFactory, residual: str) -> nn.Module:
    """Returns a 1x1 layer to twice the width, then depthwise and 1x1 back."""
    wide = EXPANSION * width
    expand = Unit(Conv(width, wide), neuron(), residual)
    reduce = Unit(DepthwisePointwise(wide, width, kernel), neuron(), residual)
    return nn.Sequential(OrderedDict(expand=expand, reduce=reduce))


class ConvBlock(Layer):
    """`x = x + separable(x); x = x + dense(x)`, dense: two 3x3 layers with a hidden width of mlp_ratio x C."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, width: int, hidden: int, sep: Separable) -> None:
        super().__init__()
        self.sep = sep(width, KERNEL, neuron, config.residual)
        self.conv1 = Unit(Conv(width, hidden, 3), neuron(), config.residual)
        self.conv2 = Unit(Conv(hidden, width, 3), neuron(), config.residual, config.mlp_drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sep(x)
        return x + self.conv2(self.conv1(x))


def meta_parts(
    config: ModelConfig,
    neuron: NeuronFactory,
    wiring: Wiring,
    *,
    sep: Separable = separable,
    block: type[Block] = Block,
) -> Parts:
    """Returns the stages, the first as two: stem and blocks of half the width, then of the full width."""
    half, sizes = stem_stage(config), stages(config)

    def convs(width: int, ratio: float, depth: int) -> nn.Sequential:
        return nn.Sequential(*(ConvBlock(config, neuron, width, int(width * ratio), sep) for _ in range(depth)))

    built: Parts = [(stem(config, neuron), convs(half.width, half.mlp_ratio, half.depth))]
    for i, (before, stage) in enumerate(zip((half, *sizes), sizes, strict=False)):
        stride = stage.reduction // before.reduction
        embed = Unit(Conv(before.width, stage.width, 3, stride=stride, bias=True), neuron(), config.residual)
        body = (
            convs(stage.width, stage.mlp_ratio, stage.depth) if i < 2 else blocks(config, neuron, stage, wiring, block)
        )
        built.append((embed, body))
    return built


def _second_stage(match: re.Match[str]) -> str:
    """Returns the released name: each block of the second stage is in a separate list."""
    return f"ConvBlock2_{int(match[1]) + 1}.0."


def published(*layers: Rule, dead: str = NONE) -> PublishedKeys:
    """Returns the released names, with `layers` for the separable convolutions and the attention."""
    rules: tuple[Rule, ...] = (
        *(
            (rf"^embeds\.{i}\.(conv|bn)\.", rf"downsample{name}.encode_\1.")
            for i, name in enumerate(("1_1", "1_2", "2", "3", "4"))
        ),
        (r"^stages\.0\.", "ConvBlock1_1."),
        (r"^stages\.1\.", "ConvBlock1_2."),
        (r"^stages\.2\.(\d+)\.", _second_stage),
        (r"^stages\.([34])\.", r"block\1."),
        (r"^(ConvBlock.*)\.conv(\d)\.conv\.", r"\1.conv\2."),
        (r"^(ConvBlock.*)\.conv(\d)\.bn\.", r"\1.bn\2."),
        (r"^(ConvBlock.*)\.sep\.", r"\1.Conv."),
        (r"\.fc(\d)\.(conv|bn)\.", r".fc\1_\2."),
        *layers,
    )
    return PublishedKeys(rules, dead, ((r"\.fc\d_conv\.weight", 3),))


REP_CONV = (
    (r"_conv\.conv\.", "_conv.0.body.0."),
    (r"_conv\.bn\.", "_conv.0.body.1.bn."),
    (r"_conv\.depthwise\.", "_conv.0.body.2.0."),
    (r"_conv\.pointwise\.", "_conv.0.body.2.1."),
    (r"_conv\.bn_out\.", "_conv.0.body.2.2."),
)

ATTENTION = (
    (r"\.attn\.(q|k|v)\.conv\.", r".attn.\1_conv."),
    (r"\.attn\.(q|k|v)\.bn\.", r".attn.\1_conv.1."),
    (r"\.attn\.proj_bn\.", ".attn.proj_conv.1."),
)

SEP_CONV = (
    (r"\.expand\.conv\.", ".pwconv1."),
    (r"\.expand\.bn\.", ".bn1."),
    (r"\.reduce\.conv\.depthwise\.", ".dwconv."),
    (r"\.reduce\.conv\.pointwise\.", ".pwconv2."),
    (r"\.reduce\.bn\.", ".bn2."),
)

META = PyramidDesign(
    published(*SEP_CONV, *ATTENTION, *REP_CONV), Wiring(proj_bias=False), head_neuron=True, parts=meta_parts
)


SCALE_START = 1e-6


class ScaledBlock(Block):
    """`x = x + s1 attn(x); x = x + s2 mlp(x)` with learned scales of each channel."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.layer_scale1, self.layer_scale2 = (nn.Parameter(torch.full((stage.width,), SCALE_START)) for _ in range(2))

    def update(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) * self.layer_scale1[:, None, None]
        return x + self.mlp(x) * self.layer_scale2[:, None, None]


UNREAD = r".*\.(init_state|act\.(alpha|zero_point|signed|init_state))"
"""Marks of the first training step, and quantisers of activations that return their input."""

QSD = PyramidDesign(
    published((r"\.quantizer\.", "."), *SEP_CONV, *ATTENTION, *REP_CONV, dead=UNREAD),
    Wiring(proj_bias=False, attention_gain=2.0),
    head_neuron=True,
    parts=partial(meta_parts, block=ScaledBlock),
)
