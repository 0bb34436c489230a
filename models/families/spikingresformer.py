"""SpikingResformer (Shi et al., CVPR 2024, "Bridging ResNet and Vision Transformer in Spiking Neural Networks").

Three stages with membrane shortcuts: dual spike self-attention over patches of 4, 2, 1 tokens, and feed-forward layers
with a grouped convolution in the middle. The head reads mean membranes. Neurons have the arctangent surrogate.

| file     | first map | widths                      | groups of |
| ImageNet | /4        | 64-128, 192-512, 384-1024   | 64        |
| CIFAR    | /1        | 64, 192, 384                | 64        |
| gesture  | /1        | 32, 96, 192 (PLIF)          | 32        |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from models.attention.dssa import INITIAL_RATE
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Block, Unit, Wiring
from models.parts.layers import BatchNorm, Conv, Head, Layer
from models.parts.published_keys import PublishedKeys
from models.parts.pyramid import Parts, PyramidDesign, staged_parts
from models.parts.stages import Stage

INIT_STD = 0.02
IMAGE_POWER = 0.1
"""The mean square of an image assumed at initialisation; it is low, so that an untrained model fires."""


class GroupedFFN(Layer):
    """Group-wise feed-forward: `y = up(x); down(y + inner(y))` with a grouped 3x3 convolution `inner`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        width, hidden, residual = stage.width, stage.hidden, config.residual
        groups = hidden // math.gcd(hidden, wiring.group_size)
        self.up = Unit(Conv(width, hidden), neuron(), residual)
        self.inner = Unit(Conv(hidden, hidden, 3, groups=groups), neuron(), residual)
        self.down = Unit(Conv(hidden, width), neuron(), residual, config.mlp_drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        return self.down(x + self.inner(x))


class ResformerBlock(Block):
    """`x = x + attn(x); x = x + ffn(x)` with the group-wise feed-forward."""

    ffn: ClassVar[Callable[..., Layer]] = GroupedFFN


def parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages; a 3x3 convolution of stride 2 precedes the second and the third."""

    def embed(before: Stage, stage: Stage) -> Unit:
        return Unit(Conv(before.width, stage.width, 3, stride=2), neuron(), config.residual)

    return staged_parts(config, neuron, wiring, embed, ResformerBlock)


def init(model: nn.Module) -> None:
    """Initialises weights from a truncated normal, and running variances of batch norms to match these weights.

    With the published initial variance of 1, an untrained model in evaluation mode emits no spike.
    """
    variance = 1.0
    for module in model.modules():
        if isinstance(module, Conv | Head):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if isinstance(module, Conv):
            power = IMAGE_POWER if module.fed == "input" else INITIAL_RATE
            variance = INIT_STD**2 * module.weight[0].numel() * power
        if isinstance(module, BatchNorm) and module.running_var is not None:
            module.running_var.fill_(variance)


def _layer(match: re.Match[str]) -> str:
    """Returns the released name: attention and feed-forward are numbered layers after the downsampling layer."""
    stage, block, part = int(match[1]), int(match[2]), match[3]
    return f"layers.{stage}.{2 * block + (part == 'mlp') + (stage > 0)}."


PUBLISHED = PublishedKeys(
    (
        (r"^embeds\.0\.conv\.", "prologue.0."),
        (r"^embeds\.0\.bn\.", "prologue.1.bn."),
        (r"^embeds\.(\d)\.neuron\.", r"layers.\1.0.activation."),
        (r"^embeds\.(\d)\.conv\.", r"layers.\1.0.conv."),
        (r"^embeds\.(\d)\.bn\.", r"layers.\1.0.norm.bn."),
        (r"^stages\.(\d)\.(\d+)\.(attn|mlp)\.", _layer),
        (r"\.outer_neuron\.", ".activation_in."),
        (r"\.map_neuron\.", ".activation_attn."),
        (r"\.attn_neuron\.", ".activation_out."),
        (r"\.patches\.", ".W."),
        (r"\.proj_conv\.", ".Wproj."),
        (r"\.proj_bn\.", ".norm_proj.bn."),
        (r"(layers\.\d\.\d+)\.bn\.", r"\1.norm.bn."),
        (r"\.rate_s$", ".firing_rate_x"),
        (r"\.rate_a$", ".firing_rate_attn"),
        (r"\.inner\.", ".conv.0."),
        (r"\.(up|down|conv\.0)\.neuron\.", r".\1.0."),
        (r"\.(up|down|conv\.0)\.conv\.", r".\1.1."),
        (r"\.(up|down|conv\.0)\.bn\.", r".\1.2.bn."),
        (r"^head\.", "classifier."),
    )
)

STANDARD = PyramidDesign(PUBLISHED, Wiring(proj_bias=False), init=init, parts=parts, head_bias=False)
GESTURE = PyramidDesign(PUBLISHED, Wiring(proj_bias=False, group_size=32), init=init, parts=parts, head_bias=False)
