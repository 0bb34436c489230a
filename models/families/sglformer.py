"""SGLFormer (Zhang et al., Frontiers in Neuroscience 2024, "Spiking Global-Local-Fusion Transformer").

SEW blocks of one width: a local convolution block without MLP, then blocks of local attention (within dilated groups of
pixels) and of SSA. For CIFAR and events `depths` repeats the sequence conv, local, global, global; the head convolves
over all tokens and steps, so there is no output of a single step. For ImageNet `depths` counts blocks, one conv, one
local, and the rest global; the head reads the mean.

| file     | stem           | head             | sizes        |
| CIFAR    | SGLFormer      | spatio-temporal  | 4-384        |
| events   | SGLFormer      | spatio-temporal  | 3-256        |
| ima      | SGLFormer_ima  | mean over tokens | 8-512, 8-768 |
| ima2     | SGLFormer_ima2 | mean over tokens | 8-384, 8-512 |

The ImageNet files run the last neurons of each global attention over steps x batch, and `ima2` also the first neurons
of the stem: the images of a batch leak into each other. `legacy_batch_leak` reproduces it; it is off by default.

The STEP benchmark's version (`variant: step`) computes another network with the same layers: its stem never pools, K
and V are computed by the layers of Q, whose neurons run on without a reset, the local attention scrambles channels and
positions, and the head's kernel for 64 tokens slides over all of them. K's and V's own layers are never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.attention.local import merge_groups, split_groups
from models.attention.ssa import SSA, Identity, merge_heads, split_heads
from models.config import ModelConfig
from models.families.qkformer import OverBatch
from models.neurons.nodes import NeuronFactory
from models.parts.backbone import SpikingModel
from models.parts.blocks import Block, Wiring, blocks
from models.parts.layers import Layer, scaled
from models.parts.published_keys import PublishedKeys, Rule
from models.parts.pyramid import Parts, Pyramid, PyramidDesign, stem
from models.parts.readouts import SpatioTemporal
from models.parts.stages import Stage, stages
from models.parts.stems import SGLStemIma, SGLStemIma2

STEP_TOKENS = 64
"""Tokens in the kernel of the benchmark's head, whatever the map."""


class MixerBlock(Block):
    """`x = x + attn(x)`, without MLP."""

    ffn: ClassVar[Callable[..., Layer]] = Identity


BLOCKS: tuple[type[Block], ...] = (MixerBlock, Block, Block)
"""The blocks of the three stages: convolution, local and global attention."""


def sequence(config: ModelConfig, neuron: NeuronFactory, wirings: tuple[Wiring, ...], repeats: int = 1) -> Parts:
    """Returns the stem and the stages, in turns: each turn has its share of the blocks of each stage."""
    turn = [
        (replace(stage, depth=stage.depth // repeats), wiring, block)
        for stage, wiring, block in zip(stages(config), wirings, BLOCKS, strict=True)
    ]
    bodies = [blocks(config, neuron, stage, wiring, block) for stage, wiring, block in turn * repeats]
    return list(zip([stem(config, neuron), *(nn.Identity() for _ in bodies[1:])], bodies, strict=True))


def parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages for CIFAR and events: `depths` times all of them, or as listed, one after the other."""
    repeats = config.depths if isinstance(config.depths, int) else 1
    return sequence(config, neuron, (wiring,) * 3, max(1, repeats))


def imagenet_parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages for ImageNet, with the leak if the config has it; the local parts have no biases."""
    local = replace(wiring, proj_bias=False, mlp_bias=False, kv_first=False)
    built = sequence(config, neuron, (local, local, wiring))
    if config.legacy_batch_leak:
        (first, _), (_, last) = built[0], built[-1]
        for attention in (module for module in last.modules() if isinstance(module, SSA)):
            attention.outer_neuron = OverBatch(attention.outer_neuron)
        if isinstance(first, SGLStemIma2) and not isinstance(first, SGLStemIma):
            first.chain.neurons[0] = OverBatch(first.chain.neurons[0])
    return built


# ------------------------------------------------------------------------------------------- the benchmark's version


class Repeated(Layer):
    """Neurons that fire several times on the same currents, each time from the membranes of the time before.

    Returns all outputs as channels, [T, B, times x C, H, W].
    """

    def __init__(self, neuron: nn.Module, times: int) -> None:
        super().__init__()
        self.neuron, self.times = neuron, times
        levels: Any = neuron.levels
        self.levels, self.unit = levels, getattr(neuron, "unit", 1.0 / levels)
        neuron.levels = 0  # type: ignore[assignment]  # a meter counts this layer, not the one inside

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.neuron(x) for _ in range(self.times)], 2)


class StepSSA(SSA):
    """The benchmark's SSA: K and V come from Q's layers, whose neurons run on without a reset."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.heads_of_model = stage.num_heads
        self.q.neuron = Repeated(self.q.neuron, 3)

    def mix(self, spikes: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.num_heads) for part in self.q(spikes).chunk(3, 2))
        product = self.outer(self.inner(q, k.transpose(3, 4)), v)
        fired = self.attn_neuron(self.drop(scaled(product, self.scale)))
        return self.proj_bn(self.proj_conv(self.merge(fired, like=spikes)))

    def merge(self, x_TBHNd: Tensor, like: Tensor) -> Tensor:
        """Returns the map of the attention's spikes."""
        return merge_heads(x_TBHNd, like)


class StepLSSA(StepSSA):
    """The benchmark's local attention: the spikes of heads and tokens are read in the wrong order."""

    def forward(self, x: Tensor) -> Tensor:
        return merge_groups(super().forward(split_groups(x)), like=x)

    def merge(self, x_TBHNd: Tensor, like: Tensor) -> Tensor:
        T, B, H, N, d = x_TBHNd.shape
        heads = self.heads_of_model
        return x_TBHNd.reshape(T, B, H // heads, N, heads, d).transpose(4, 5).reshape(like.shape)


def step_parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages of the benchmark's version."""
    built = parts(config, neuron, wiring)
    sizes = stages(config)
    for i, (_, body) in enumerate(built):
        stage = sizes[i % len(sizes)]
        if stage.attn_layer in STEP_ATTENTIONS:
            for block in body.children():
                block.attn = STEP_ATTENTIONS[stage.attn_layer](config, neuron, stage, wiring)
    return built


STEP_ATTENTIONS: dict[str, type[StepSSA]] = {"SSA": StepSSA, "LSSA": StepLSSA}


class StepSGLFormer(Pyramid):
    """The benchmark's version, whose head slides over the tokens."""

    def __init__(self, config: ModelConfig, design: PyramidDesign) -> None:
        super().__init__(config, design)
        if self.readout is not None:
            width = stages(config)[-1].width
            self.readout = SpatioTemporal(width, STEP_TOKENS, config.step, fed=self.readout.conv.fed)


# --------------------------------------------------------------------------------------------------- published names


def _place(match: re.Match[str]) -> str:
    """Returns the released name of a part: stages count by turns of three, with two attentions in the third."""
    turn, stage = divmod(int(match[1]), 3)
    if stage == 0:
        return f"blocks.{turn}.loc."
    return f"blocks.{turn}.{'ssa' if match[3] == 'attn' else 'mlp'}{stage + int(match[2])}."


TURNS: tuple[Rule, ...] = ((r"^stages\.(\d+)\.(\d+)\.(attn|mlp)\.", _place),)
HEAD: tuple[Rule, ...] = ((r"^readout\.conv\.", "full_size_conv."), (r"^readout\.bn\.", "bn."))
LOCAL: tuple[Rule, ...] = (
    *(
        (rf"\.{ours}\.{layer}\.", f".{theirs}.{name}.")
        for ours, theirs, conv in (
            ("spread", "conv", "conv3x3"),
            ("expand", "conv1x1_1", "conv1x1"),
            ("depthwise", "dwconv3x3", "conv3x3"),
            ("reduce", "conv1x1_2", "conv1x1"),
        )
        for layer, name in (("conv", conv), ("bn", "bn"))
    ),
    (r"(ssa\d|local2_SSA)\.(q|k|v)\.conv\.", r"\1.\2_conv.conv1x1."),
    (r"(ssa\d|local2_SSA)\.(q|k|v)\.bn\.", r"\1.\2_conv.bn."),
    (r"(ssa\d|local2_SSA)\.proj_conv\.", r"\1.proj_conv.conv1x1."),
    (r"(ssa\d|local2_SSA)\.proj_bn\.", r"\1.proj_conv.bn."),
    (r"(mlp\d|local2_MLP)\.fc(\d)\.conv\.", r"\1.mlp\2.conv1x1."),
    (r"(mlp\d|local2_MLP)\.fc(\d)\.bn\.", r"\1.mlp\2.bn."),
)
AUTHORS = PublishedKeys(
    (
        *TURNS,
        *HEAD,
        (r"^embeds\.0\.chain\.convs\.0\.", "stem.conv.conv3x3."),
        (r"^embeds\.0\.chain\.bns\.0\.", "stem.conv.bn."),
        (r"^embeds\.0\.chain\.convs\.(\d)\.", r"tokenizer.conv\1.conv3x3."),
        (r"^embeds\.0\.chain\.bns\.(\d)\.", r"tokenizer.conv\1.bn."),
        *LOCAL,
    )
)
AUTHORS_IMAGENET = PublishedKeys(
    (
        (r"^embeds\.0\.chain\.(conv|bn)s\.0\.", r"patch_embed.proj_\1."),
        (r"^embeds\.0\.chain\.(conv|bn)s\.(\d)\.", r"patch_embed.proj\2_\1."),
        (r"^stages\.0\.0\.attn\.", "localblock.0.local1."),
        (r"^stages\.1\.0\.attn\.", "localblock.0.local2_SSA."),
        (r"^stages\.1\.0\.mlp\.", "localblock.0.local2_MLP."),
        *LOCAL,
        (r"^stages\.2\.", "blocks."),
        (r"\.(q|k|v|fc1|fc2)\.(conv|bn)\.", r".\1_\2."),
    ),
    dead=r"blocks\.\d+\.norm\d\.(weight|bias)",
    ranks=((r"^blocks\..*_conv\.weight", 3),),
)
BENCHMARK = PublishedKeys(
    (
        *TURNS,
        *HEAD,
        (r"^embeds\.0\.chain\.(conv|bn)s\.0\.", r"stem.stem_\1."),
        (r"^embeds\.0\.chain\.(conv|bn)s\.(\d)\.", r"tokenizer.\1\2."),
        *(
            (rf"\.loc\.{ours}\.{layer}\.", f".loc.{name}.")
            for i, (ours, conv) in enumerate(
                (("spread", "dw_conv1"), ("expand", "conv1"), ("depthwise", "dw_conv2"), ("reduce", "conv2"))
            )
            for layer, name in (("conv", conv), ("bn", f"bn{i + 1}"))
        ),
        (r"\.proj_(conv|bn)\.", r".pro_\1."),
        (r"\.(q|k|v|fc1|fc2)\.(conv|bn)\.", r".\1_\2."),
    ),
    dead=r".*\.(threshold|act_fun\.alpha)",
)

LAYERS_WITHOUT_BIAS = Wiring(proj_bias=False, mlp_bias=False, kv_first=False)
DVS = PyramidDesign(AUTHORS, LAYERS_WITHOUT_BIAS, parts=parts)
STEP = PyramidDesign(BENCHMARK, LAYERS_WITHOUT_BIAS, parts=step_parts)
IMAGENET = PyramidDesign(AUTHORS_IMAGENET, parts=imagenet_parts)


def cifar(config: ModelConfig) -> SpikingModel:
    """Returns the authors' or the benchmark's network."""
    return StepSGLFormer(config, STEP) if config.variant == "step" else DVS(config)
