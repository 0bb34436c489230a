"""MSViT (Hua et al., IJCAI 2025, "Improving Spiking Vision Transformer Using Multi-scale Attention Fusion").

QKFormer's skeleton with wider first stages, D/2, D/2, D, and another attention on the large maps
(`models.attention.multiscale`). As released, the thresholds given to the attentions' neurons are ignored, so they are
1.0 (`attn_threshold`), and SSA's last neurons leak over the batch as in QKFormer (`legacy_batch_leak`).

| file      | attention on the large maps | blocks           |
| CIFAR-10  | MSSA                        | 1, 1, depths - 2 |
| CIFAR-100 | MSSA_pointwise              | 1, 1, depths - 2 |
| ImageNet  | MSSA                        | 1, 2, depths - 3 |
"""

from __future__ import annotations

from models.families.qkformer import parts, published
from models.parts.blocks import Wiring
from models.parts.pyramid import PyramidDesign

CIFAR = PyramidDesign(published(3), Wiring(pool_first=False), parts=parts)
IMAGENET = PyramidDesign(published(3, attention="attn", mlp="fc"), parts=parts)
