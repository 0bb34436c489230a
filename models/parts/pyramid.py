"""Transformers whose map shrinks and widens from stage to stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from models import registry
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory, neuron_factory
from models.parts.backbone import Design, SpikingModel
from models.parts.blocks import Block, Wiring, blocks
from models.parts.layers import Head, InputKind
from models.parts.readouts import features, readout
from models.parts.stages import Stage, stages, stem_stage
from models.parts.stems import Prologue
from models.parts.stems_two_path import StageEmbed

Parts = list[tuple[nn.Module, nn.Module]]
"""The stages: an embedding, which shrinks and widens the map, and the blocks."""


def stem(config: ModelConfig, neuron: NeuronFactory) -> nn.Module:
    """Returns the stem of the config."""
    built: nn.Module = registry.load(registry.STEMS[config.embed_layer])(config, neuron, stem_stage(config))
    return built


def staged_parts(
    config: ModelConfig,
    neuron: NeuronFactory,
    wiring: Wiring,
    embed: Callable[[Stage, Stage], nn.Module],
    block: type[Block] = Block,
) -> Parts:
    """Returns the stages: the stem, then an embedding between each stage and the next."""
    sizes = stages(config)
    embeds = [stem(config, neuron), *(embed(before, stage) for before, stage in itertools.pairwise(sizes))]
    return [(layer, blocks(config, neuron, stage, wiring, block)) for layer, stage in zip(embeds, sizes, strict=True)]


def two_path_parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages of QKFormer and Max-Former."""

    def embed(before: Stage, stage: Stage) -> StageEmbed:
        return StageEmbed(config, neuron, before.width, stage.width, pool_first=wiring.pool_first)

    return staged_parts(config, neuron, wiring, embed)


NUMBERED = tuple(
    rule
    for i in range(8)
    for rule in ((rf"^embeds\.{i}\.(paths\.)?", f"patch_embed{i + 1}."), (rf"^stages\.{i}\.", f"stage{i + 1}."))
)
"""The published names of embeddings and stages, which count from one."""


@dataclass(frozen=True)
class PyramidDesign(Design):
    """The settings of a pyramid family; called with a config, it builds the model."""

    parts: Callable[[ModelConfig, NeuronFactory, Wiring], Parts] = field(default=two_path_parts)
    head_bias: bool = True
    head_counts: bool = False
    """Whether the head reads whole counts k where its neurons give k / D."""

    def __call__(self, config: ModelConfig) -> SpikingModel:
        return Pyramid(config, self)


class Pyramid(SpikingModel):
    """Embedding and blocks in turn, mean over positions, linear head; with `kd_head` the mean of two heads."""

    def __init__(self, config: ModelConfig, design: PyramidDesign) -> None:
        super().__init__(config)
        self.published = design.published
        neuron = neuron_factory(config)
        parts = design.parts(config, neuron, design.wiring)
        self.embeds = nn.ModuleList(embed for embed, _ in parts)
        self.stages = nn.ModuleList(blocks for _, blocks in parts)
        self.head_neuron: nn.Module = neuron() if design.head_neuron else nn.Identity()
        self.readout = readout(config, stages(config)[-1], has_neuron=design.head_neuron)
        self.head = self._head(design)
        self.head_kd = self._head(design) if config.kd_head else None
        design.init(self)

    def _head(self, design: PyramidDesign) -> Head:
        width, classes = stages(self.config)[-1].width, self.config.num_classes
        counts = design.head_counts and self.readout is None
        gain = 1.0 / getattr(self.head_neuron, "unit", 1.0) if counts else 1.0
        fed: InputKind = "spikes" if design.head_neuron and self.readout is None else "real"
        return Head(width, classes, fed=fed, bias=design.head_bias, gain=gain)

    @property
    def input_channels(self) -> tuple[int, ...]:
        """Returns the allowed numbers of input channels; a prologue can add one."""
        stem = self.embeds[0]
        return stem.input_channels if isinstance(stem, Prologue) else super().input_channels

    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        x = x_TBCHW
        for embed, stage in zip(self.embeds, self.stages, strict=True):
            x = stage(embed(x))
        read = features(x, self.head_neuron, self.readout)
        logits = self.head(read)
        return logits if self.head_kd is None else (logits + self.head_kd(read)) / 2
