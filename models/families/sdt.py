"""Spike-driven Transformer, version 1 (Yao et al., NeurIPS 2023, "Spike-driven Transformer").

Membrane shortcuts, and an attention of masks and additions. Neurons between the mean over tokens and the head make the
head spike-driven as well.

| file              | attention                              | stem pools                   |
| CIFAR, Gesture    | SDSA                                   | last 2 of 4; Gesture: last 3 |
| ImageNet          | SDSA                                   | all 4                        |
| events, CIFAR10   | SDSA with dilated K and V              | last 2 of 4                  |
"""

from __future__ import annotations

from models.families.spikformer import BLOCKS, STEM
from models.parts.backbone import Design, init_convs
from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys

_KEYS = PublishedKeys((*STEM, *BLOCKS), dead=r"block\.\d+\.attn\.talking_heads\.weight")

STATIC = Design(_KEYS, Wiring(mlp_shortcut=True), head_neuron=True, init=init_convs)
DVS = Design(_KEYS, Wiring(mlp_shortcut=True, dilated=True), head_neuron=True, init=init_convs)
