"""Spikformer (Zhou et al., ICLR 2023, "Spikformer: When Spiking Neural Network Meets Transformer").

Residuals add spikes to spikes (SEW), so later layers read small integers; the head reads the mean over tokens.

| file     | Q, K, V           | attention product | stem pools    |
| CIFAR    | linear, with bias | (Q K^T) V * 0.125 | last two of 4 |
| ImageNet | 1x1, no bias      | Q (K^T V) * 0.125 | all 4         |
| events   | 1x1, no bias      | (Q K^T) V * 0.25  | all 4         |
"""

from __future__ import annotations

from models.parts.backbone import Design, init_pointwise
from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys

STEM = (
    (r"^stem\.chain\.(conv|bn)s\.0", r"patch_embed.proj_\1"),
    (r"^stem\.chain\.(conv|bn)s\.(\d)", r"patch_embed.proj_\1\2"),
    (r"^stem\.position\.(conv|bn)", r"patch_embed.rpe_\1"),
)
"""Names of the stem in all published code derived from Spikformer."""

BLOCKS = ((r"^blocks\.", "block."), (r"\.(q|k|v|fc1|fc2)\.(conv|bn)\.", r".\1_\2."))
"""Names of the blocks in the same code."""

DEAD = r"pos_embed|(block\.\d+\.)?norm\d?\.(weight|bias)"
"""Layer norms and a position embedding in the released files that the forward pass never reads."""

CIFAR = Design(
    PublishedKeys((*STEM, *BLOCKS, (r"^(block\..*)_conv\.", r"\1_linear.")), DEAD, ((r"_linear\.weight", 2),)),
    Wiring(qkv_bias=True, kv_first=False),
    init=init_pointwise,
)
IMAGENET = Design(PublishedKeys((*STEM, *BLOCKS), DEAD, ((r"attn\..*_conv\.weight", 3),)))
DVS = Design(PublishedKeys((*STEM, *BLOCKS), DEAD, ((r"^block.*_conv\.weight", 3),)), Wiring(kv_first=False))
