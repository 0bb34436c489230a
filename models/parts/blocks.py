"""Transformer blocks. `residual` decides what shortcuts add, and so the position of the neurons.

| residual | order of the layers, and what shortcuts add | input of layers | paper |
| --- | --- | --- | --- |
| `sew` | conv-BN-neuron, spikes added to spikes | small integers | Fang et al. 2021 |
| `ms` | neuron-conv-BN, membranes added to membranes | binary spikes | Hu et al. 2021 |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from models import registry
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, Layer, Stack
from models.parts.stages import Stage
from models.parts.tokens import TokenSelection


@dataclass(frozen=True)
class Wiring:
    """Differences between published families that share their parts."""

    qkv_bias: bool = False
    """Whether the layers of Q, K and V have a bias, which the batch norm after them makes redundant."""
    proj_bias: bool = True
    mlp_bias: bool = True
    kv_first: bool = True
    """Whether SSA computes Q (K^T V), linear in the tokens, or (Q K^T) V; only the cost differs."""
    mlp_shortcut: bool = False
    """Whether an MLP of ratio 1 has a shortcut around its first layer too."""
    kv_norm: bool = True
    """Whether K and V of EMSA pass their batch norms."""
    scrambled_router: bool = False
    """Whether EMSA has the faults of the STEP benchmark: experts and tokens mixed up, Q of plain LIF neurons."""
    expert_bias: bool = False
    """Whether the depthwise layer of EMSP has a bias."""
    dilated: bool = False
    """Whether SDSA dilates K and V: a spike reaches its neighbours."""
    wavelet_in_series: bool = False
    """Whether the convolutions of the wavelet mixer read its transform instead of the spikes."""
    pool_first: bool = True
    """Whether the first or the second of the two convolutions between stages pools."""
    attention_gain: float = 1.0
    """Factor on the spikes after the attention."""
    group_size: int = 64
    """Channels in a group of SpikingResformer's grouped convolutions."""


class Unit(Layer):
    """A layer, its batch norm and its neurons, in this order (sew) or neurons first (ms)."""

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


class MLP(Layer):
    """Two 1x1 layers (Zhou et al. 2023), `fc2(fc1(x))`, with a hidden width of mlp_ratio x C.

    With `wiring.mlp_shortcut` and a hidden width of C, each layer has a shortcut: `y = x + fc1(x); y + fc2(y)`, less
    the x that the block adds.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        width, hidden = stage.width, stage.hidden
        self.fc1 = Unit(Conv(width, hidden, bias=wiring.mlp_bias), neuron(), config.residual)
        self.fc2 = Unit(Conv(hidden, width, bias=wiring.mlp_bias), neuron(), config.residual, config.mlp_drop)
        self.shortcut = wiring.mlp_shortcut and hidden == width and config.residual == "ms"

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return hidden + self.fc2(x + hidden) if self.shortcut else self.fc2(hidden)


class Block(Layer):
    """`x = x + attn(x); x = x + mlp(x)`, with `token_keep` < 1 for a part of the tokens."""

    ffn: ClassVar[Callable[[ModelConfig, NeuronFactory, Stage, Wiring], Layer] | None] = None
    """The feed-forward part of the family; by default that of `mlp_layer`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()
        attention = registry.load(registry.ATTENTIONS[stage.attn_layer])
        self.attn: Layer = attention(config, neuron, stage, wiring)
        ffn = type(self).ffn or registry.load(registry.MLPS[config.mlp_layer])
        self.mlp: Layer = ffn(config, neuron, stage, wiring)
        self.selection = TokenSelection(config.token_keep) if config.token_keep < 1.0 else None

    def forward(self, x: Tensor) -> Tensor:
        return self.update(x) if self.selection is None else self.selection(x, self.update)

    def update(self, x: Tensor) -> Tensor:
        """Returns the block's output for these tokens."""
        x = x + self.attn(x)
        return x + self.mlp(x)


def read_real_values(parts: nn.Sequential) -> None:
    """Marks the layers that read the shortcuts' sum of blocks with sew as reading real values, which cost MACs."""
    block: Any
    for block in parts:
        units = [getattr(block.attn, name, None) for name in ("q", "k", "v", "router")]
        for unit in (*units, *getattr(block.attn, "experts", ()), block.mlp.fc1):
            if unit is not None:
                unit.conv.fed = "real"


def blocks(
    config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring, block: type[Block] = Block
) -> nn.Sequential:
    """Returns the blocks of one stage."""
    return nn.Sequential(*(block(config, neuron, stage, wiring) for _ in range(stage.depth)))
