"""QSD-Transformer, Quantized Spike-driven Transformer (Qiu et al., ICLR 2025).

Meta-SpikeFormer with weights of 4 bits, neurons of 4 levels on one step (IELIFNode at threshold 1/4), and a learned
scale per channel of each branch of a transformer block. The spikes after the attention count twice.

| model | widths             | depths     |
| 8-256 | 48, 96, 192, 256   | 1, 2, 6, 2 |
| 15M   | 64, 128, 256, 360  | 1, 2, 6, 2 |
| 8-384 | 96, 192, 384, 480  | 1, 2, 6, 2 |
| 8-512 | 128, 256, 512, 640 | 1, 2, 6, 2 |
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.families.metaspikformer import ATTENTION, REP_CONV, SEP_CONV, meta_parts, published
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Block, Wiring
from models.parts.pyramid import PyramidDesign
from models.parts.stages import Stage

SCALE_START = 1e-6


class ScaledBlock(Block):
    """`x = x + s1 attn(x); x = x + s2 mlp(x)` with learned scales of each channel."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron, stage, wiring)
        self.layer_scale1, self.layer_scale2 = (nn.Parameter(torch.full((stage.width,), SCALE_START)) for _ in range(2))

    def update(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) * self.layer_scale1[:, None, None]
        return x + self.mlp(x) * self.layer_scale2[:, None, None]


UNREAD = r".*\.(init_state|act\.(alpha|zero_point|signed|init_state))"
"""Marks of the first training step, and quantisers of activations that return their input."""

QSD = PyramidDesign(
    published((r"\.quantizer\.", "."), *SEP_CONV, *ATTENTION, *REP_CONV, dead=UNREAD),
    Wiring(proj_bias=False, attention_gain=2.0),
    head_neuron=True,
    parts=partial(meta_parts, block=ScaledBlock),
)
