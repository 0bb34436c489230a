"""The parts of a transformer block. `residual` says what its shortcuts add, and with that where the neurons stand.

sew: conv-BN-neuron, shortcuts add spikes to spikes (Fang et al. 2021), so layers see small integers.
ms: neuron-conv-BN, shortcuts add membranes (Hu et al. 2021), so layers see binary spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from models import registry
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, Stack
from models.parts.stages import Stage


@dataclass(frozen=True)
class Wiring:
    """In what the published families differ though they share their parts."""

    qkv_bias: bool = False
    """Whether the layers in front of Q, K and V have a bias, which the batch norm behind them makes redundant."""
    proj_bias: bool = True
    kv_first: bool = True
    """Whether SSA computes Q (K^T V), linear in the tokens, or (Q K^T) V; equal but for their cost."""
    mlp_shortcut: bool = False
    """Whether an MLP of ratio 1 has a shortcut around its first layer too."""
    dilated: bool = False
    """Whether SDSA spreads the spikes of K and V to their neighbours."""
    pool_first: bool = True
    """Whether the first of the two convolutions between two stages pools, or the second."""
    group_size: int = 64
    """Channels in a group of SpikingResformer's grouped convolutions."""


class Unit(nn.Module):
    """A layer, its batch norm and its neurons: in this order (sew), or the neurons first (ms)."""

    def __init__(self, conv: Conv | Stack, neuron: nn.Module, residual: str, drop: float = 0.0) -> None:
        super().__init__()
        self.residual = residual
        self.conv = conv
        self.bn = BatchNorm(conv.out_channels)
        self.drop = nn.Dropout(drop)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        if self.residual == "ms":
            x = self.neuron(x)
        x = self.drop(self.bn(self.conv(x)))
        return x if self.residual == "ms" else self.neuron(x)


class MLP(nn.Module):
    """Two 1x1 layers with a hidden width of mlp_ratio x C.

    Where the family says so and the hidden width is C, each has a shortcut of its own: `y = x + fc1(x); y + fc2(y)`,
    less the x that the block adds.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        width, hidden = stage.width, stage.hidden
        self.fc1 = Unit(Conv(width, hidden, bias=True), neuron(), config.residual)
        self.fc2 = Unit(Conv(hidden, width, bias=True), neuron(), config.residual, config.mlp_drop)
        self.shortcut = wiring.mlp_shortcut and hidden == width and config.residual == "ms"

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        out: Tensor = hidden + self.fc2(x + hidden) if self.shortcut else self.fc2(hidden)
        return out


class Block(nn.Module):
    """`x = x + attn(x); x = x + mlp(x)`."""

    ffn: ClassVar[Callable[[ModelConfig, NeuronFactory, Stage, Wiring], nn.Module]] = MLP

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        attention = registry.load(registry.ATTENTIONS[stage.attn_layer])
        self.attn: nn.Module = attention(config, neuron, stage, wiring)
        self.mlp = type(self).ffn(config, neuron, stage, wiring)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


def blocks(
    config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring, block: type[Block] = Block
) -> nn.Sequential:
    """Returns the blocks of one stage."""
    return nn.Sequential(*(block(config, neuron, stage, wiring) for _ in range(stage.depth)))
