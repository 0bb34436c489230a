"""Max-Former (Fang et al., NeurIPS 2025, "Spiking Transformers Need High-Frequency Information").

QKFormer's pyramid with membrane shortcuts; depthwise convolutions on the large maps, SSA in the last stage.

| file     | first map | token mixing by stage | blocks           |
| CIFAR    | /1        | none, DWC3, SSA       | 1, 1, depths - 2 |
| ImageNet | /4        | DWC7, DWC5, SSA       | 1, 2, depths - 3 |
| events   | /8        | DWC3, SSA             | 1, depths - 1    |
"""

from __future__ import annotations

from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys
from models.parts.pyramid import NUMBERED, PyramidDesign

WIRING = Wiring(mlp_shortcut=True)


def published(stem: tuple[str, ...], shortcut: str, wide_mixer: str = "conv") -> PublishedKeys:
    """Returns the released names; arguments name the stem's layers, its shortcut, and the first depthwise layer."""
    rules = (
        *NUMBERED,
        *((rf"^patch_embed1\.main\.{i}\.", f"patch_embed1.{name}_") for i, name in enumerate(stem)),
        (r"^patch_embed1\.shortcut\.", f"patch_embed1.{shortcut}.embed_"),
        (r"^(patch_embed\d)\.main\.0\.", r"\1.max_embed1.embed_"),
        (r"^(patch_embed\d)\.main\.1\.", r"\1.embed1.embed_"),
        (r"^(patch_embed\d)\.shortcut\.", r"\1.max_embed2.embed_"),
        (r"^stage1\.(\d+)\.attn\.(conv|bn)\.", rf"stage1.\1.mixer.{wide_mixer}_\2."),
        (r"\.attn\.(conv|bn)\.", r".mixer.conv_\1."),
        (r"\.mixer\.(conv\d?)_conv\.", r".mixer.\1."),
        (r"\.(q|k|v|fc1|fc2)\.(conv|bn)\.", r".\1_\2."),
    )
    return PublishedKeys(rules, ranks=((r"\.attn\..*_conv\.weight", 3),))


CIFAR = PyramidDesign(published(("proj", "embed1.embed"), "embed2"), WIRING, head_neuron=True)
IMAGENET = PyramidDesign(
    published(("embed1.embed", "embed2.embed", "embed3.embed"), "embed4", "conv5"), WIRING, head_neuron=True
)
DVS = PyramidDesign(
    published(("proj", "max_embed1.embed", "max_embed2.embed", "max_embed3.embed"), "embed1"), WIRING, head_neuron=True
)
