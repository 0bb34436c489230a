"""QKFormer (Zhou et al., NeurIPS 2024, "Hierarchical Spiking Transformer using Q-K Attention").

Three stages (two for events) of SEW blocks: Q-K token attention, linear in the tokens, on the large maps, SSA in the
last stage. The released code runs SSA's last neurons over steps x batch, so the images of a batch leak into each other.
Released checkpoints were trained with the leak and need it: without it, or with a batch of one, QKFormer's issue 14
reports 74.20 % instead of 78.73 (10-384) and 78.70 % instead of 84.25 (10-768) on ImageNet. `legacy_batch_leak`
reproduces it; it is off by default.

| file     | first map | poolings between stages  | blocks            |
| CIFAR    | /1        | after the second layer   | 1, 1, depths - 2  |
| ImageNet | /4        | after the first layer    | 1, 2, depths - 3  |
| events   | /8        | after the second layer   | 1, depths - 1     |
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.attention.ssa import SSA
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Wiring
from models.parts.layers import Layer
from models.parts.published_keys import PublishedKeys
from models.parts.pyramid import NUMBERED, Parts, PyramidDesign, two_path_parts


class OverBatch(Layer):
    """Neurons that carry their membrane from image to image of a batch: the leak of the released code."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron
        levels: Any = neuron.levels
        self.levels, self.unit = levels, getattr(neuron, "unit", 1.0 / levels)
        neuron.levels = 0  # type: ignore[assignment]  # a meter counts this layer, by its steps, not the one inside

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.neuron(x.flatten(0, 1).unsqueeze(1))
        return out.view_as(x)


def parts(config: ModelConfig, neuron: NeuronFactory, wiring: Wiring) -> Parts:
    """Returns the stages, with the leak if the config has it."""
    built = two_path_parts(config, neuron, wiring)
    if config.legacy_batch_leak:
        for _, blocks in built:
            for attention in (module for module in blocks.modules() if isinstance(module, SSA)):
                attention.outer_neuron = OverBatch(attention.outer_neuron)
    return built


def published(stages: int, *, embed: str = "proj3", attention: str = "ssa", mlp: str = "mlp") -> PublishedKeys:
    """Returns the released names; arguments name the first layer between stages, the last stage's SSA, and the MLP."""
    rules = (
        *NUMBERED,
        (r"^patch_embed1\.main\.0\.", "patch_embed1.proj_"),
        (r"^patch_embed1\.main\.(\d)\.", r"patch_embed1.proj\1_"),
        (r"^(patch_embed\d)\.main\.0\.", rf"\1.{embed}_"),
        (r"^(patch_embed\d)\.main\.1\.", r"\1.proj4_"),
        (r"^(patch_embed\d)\.shortcut\.", r"\1.proj_res_"),
        (rf"^stage{stages}\.(\d+)\.attn\.", rf"stage{stages}.\1.{attention}."),
        (rf"^stage(?!{stages})(\d)\.(\d+)\.attn\.", r"stage\1.\2.tssa."),
        (r"\.(q|k|v|p)\.(conv|bn)\.", r".\1_\2."),
        (r"\.fc(\d)\.(conv|bn)\.", rf".{mlp}\1_\2."),
    )
    return PublishedKeys(rules, ranks=((r"\.(attn|ssa|tssa)\..*_conv\.weight", 3),))


CIFAR = PyramidDesign(published(3), Wiring(pool_first=False), parts=parts)
IMAGENET = PyramidDesign(published(3, attention="attn", mlp="fc"), parts=parts)
DVS = PyramidDesign(published(2, embed="proj"), Wiring(pool_first=False), parts=parts)
