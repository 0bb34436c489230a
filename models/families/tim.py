"""TIM (Shen et al., IJCAI 2024, "TIM: An Efficient Temporal Interaction Module for Spiking Transformer").

Spikformer for events with the attention of `models.attention.tim`. As released, every threshold is 1.0 (the
intended 0.3 and 0.5 are never passed on), and TIM's output is then silent from the second step on: the mixture is at
most 1, and neurons of tau 2 never reach 1 from it. `tim_threshold: 1.0` reproduces that; the preset has the intended
0.3.
"""

from __future__ import annotations

from models.families.spikformer import BLOCKS, DEAD, STEM
from models.parts.backbone import Design
from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys

KEYS = PublishedKeys(
    (*STEM, *BLOCKS, (r"\.query\.conv\.", ".TIM.interactor.")),
    dead=DEAD + r"|.*\.(threshold|act_fun\.alpha)",
    ranks=((r"^block.*(_conv|interactor)\.weight", 3),),
)
DVS = Design(KEYS, Wiring(proj_bias=False, kv_first=False))
