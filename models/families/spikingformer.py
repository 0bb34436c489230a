"""Spikingformer (Zhou et al., 2023, "Spikingformer: Spike-driven Residual Learning for Transformer-based SNNs").

Spikformer with membrane shortcuts (`residual: ms`): neurons precede the layers, which read binary spikes only; the
tokenizer is the stem SPS in that order. The head reads the mean membrane. The layers of Q, K and V have no bias.

| file     | attention product | names in the stem  |
| CIFAR    | (Q K^T) V * 0.125 | block0_conv, ...   |
| ImageNet | Q (K^T V) * 0.125 | proj_conv, ...     |
| events   | (Q K^T) V * 0.125 | proj_conv, tau 1.5 |
"""

from __future__ import annotations

from models.families.spikformer import BLOCKS, DEAD
from models.parts.backbone import Design
from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys

_MLP = ((r"fc([12])_", r"mlp\1_"),)
_RANKS = ((r"attn\..*_conv\.weight", 3),)
_CIFAR_STEM = (
    (r"^stem\.chain\.(conv|bn)s\.(\d)", r"patch_embed.block\2_\1"),
    (r"^stem\.position\.(conv|bn)", r"patch_embed.block4_\1"),
)
_STEM = (
    (r"^stem\.chain\.(conv|bn)s\.0", r"patch_embed.proj_\1"),
    (r"^stem\.chain\.(conv|bn)s\.(\d)", r"patch_embed.proj\2_\1"),
    (r"^stem\.position\.(conv|bn)", r"patch_embed.proj4_\1"),
)

CIFAR = Design(PublishedKeys((*_CIFAR_STEM, *BLOCKS, *_MLP), DEAD, _RANKS), Wiring(kv_first=False))
IMAGENET = Design(PublishedKeys((*_STEM, *BLOCKS, *_MLP), DEAD, _RANKS))
DVS = Design(PublishedKeys((*_STEM, *BLOCKS, *_MLP), DEAD, _RANKS), Wiring(kv_first=False))
