"""Temporal Interaction Module of TIM (Shen et al., IJCAI 2024): SSA whose queries mix with their own past."""

from __future__ import annotations

import torch
from torch import Tensor

from config.errors import ConfigError
from models.attention.ssa import SSA
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Wiring
from models.parts.layers import Conv, Layer
from models.parts.stages import Stage

KERNEL = 5


class TemporalInteraction(Layer):
    """`out_t = LIF(alpha LIF(conv(out_{t-1})) + (1 - alpha) q_t)`, out_0 = q_0, on queries [T, B, H, N, d].

    As released, the tokens are the channels of the convolution, which slides along each head's width. Where it
    `carries`, the steps may come in several calls.
    """

    carries = False
    past: Tensor | None = None

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        tokens = stage.grid**2
        self.alpha = config.tim_alpha
        self.conv = Conv(tokens, tokens, (1, KERNEL), bias=True)
        self.in_neuron = neuron(config.tim_threshold)
        self.out_neuron = neuron(config.tim_threshold)

    def forward(self, q: Tensor) -> Tensor:
        if q.shape[3] != self.conv.in_channels:
            raise ConfigError(
                f"TIM's tokens are channels of its convolution: it needs the {self.conv.in_channels} that img_size gave"
                f" (got {q.shape[3]})"
            )
        past, out = (q[:1], [q[:1]]) if self.past is None else (self.past, [])
        for now in torch.split(q[len(out) :], 1) if len(q) > len(out) else ():
            interaction = self.in_neuron(self.convolve(past))
            past = self.out_neuron(self.alpha * interaction + (1.0 - self.alpha) * now)
            out.append(past)
        if self.carries:
            self.past = past
        return torch.cat(out)

    def convolve(self, q_1BHNd: Tensor) -> Tensor:
        """Returns the convolution of one step's queries, of the same shape."""
        return self.conv(q_1BHNd.flatten(1, 2).unsqueeze(3)).view_as(q_1BHNd)


def TIM(config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> SSA:  # noqa: N802
    """Returns SSA whose queries mix with their past (Shen et al. 2024).

    `out_t = LIF(a LIF(conv(out_{t-1})) + (1 - a) q_t)` replaces the query q_t, a = tim_alpha.
    """
    attention = SSA(config, neuron, stage, wiring)
    attention.query = TemporalInteraction(config, neuron, stage)
    return attention
