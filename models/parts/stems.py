"""Stems: from pixels or events to tokens. x_TBCHW in (T = 1 for a still image), x_TBDhw out with T = step.

What a still image would repeat at every step (the first convolution, its batch norm, a pool before the first neurons)
is computed once. With `residual: sew` a stem gives spikes or sums of spikes, with `ms` it may give membranes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, MaxPool
from models.parts.stages import Stage, pools


def repeat_steps(x: Tensor, steps: int) -> Tensor:
    """Shows a still image's map, [1, B, ...], at every step; what has steps already is left alone."""
    return x.expand(steps, *x.shape[1:]) if x.shape[0] == 1 else x


class Convs(nn.Module):
    """The four 3x3 convolutions of Spikformer's stem and its relatives, to D/8, D/4, D/2, D.

    conv-BN-neuron-(pool) each, or with `pool_first` conv-BN-(pool)-neuron; without `last_neuron` ends in BN-(pool).
    """

    def __init__(
        self,
        config: ModelConfig,
        neuron: NeuronFactory,
        stage: Stage,
        *,
        pool_first: bool = False,
        last_neuron: bool = True,
    ) -> None:
        super().__init__()
        widths = [config.in_channels, *(stage.width // d for d in (8, 4, 2, 1))]
        self.step = config.step
        self.pool_first = pool_first
        self.convs = nn.ModuleList(Conv(widths[i], widths[i + 1], 3, fed="spikes" if i else "input") for i in range(4))
        self.bns = nn.ModuleList(BatchNorm(width) for width in widths[1:])
        self.pools = nn.ModuleList(MaxPool() if pool else nn.Identity() for pool in pools(config, stage.reduction))
        self.neurons = nn.ModuleList(neuron() for _ in range(4 if last_neuron else 3))

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, bn, pool) in enumerate(zip(self.convs, self.bns, self.pools, strict=True)):
            x = bn(conv(x))
            if i == len(self.neurons):
                return repeat_steps(pool(x), self.step)
            fire = self.neurons[i]
            x = fire(repeat_steps(pool(x), self.step)) if self.pool_first else pool(fire(repeat_steps(x, self.step)))
        return x


class ConvPosition(nn.Module):
    """Positions as Spikformer's RPE finds them: a 3x3 convolution and batch norm of the spikes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, 3)
        self.bn = BatchNorm(width)

    def forward(self, spikes: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(spikes))
        return out


class LearnedPosition(nn.Module):
    """One learned value a channel and token, the same for every step and image."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.empty(width, grid, grid))
        nn.init.trunc_normal_(self.map, std=0.02)

    def forward(self, spikes: Tensor) -> Tensor:
        if spikes.shape[2:] != self.map.shape:
            raise ConfigError(
                f"learned positions need the size they were made for, {list(self.map.shape[1:])} tokens"
                f" (got {list(spikes.shape[3:])}); pos_layer: rpe takes any size"
            )
        return self.map.expand_as(spikes)


def position(config: ModelConfig, stage: Stage) -> nn.Module | None:
    """Returns what tells the tokens where they are, a current computed from spikes, or None."""
    if config.pos_layer == "none":
        return None
    return ConvPosition(stage.width) if config.pos_layer == "rpe" else LearnedPosition(stage.width, stage.grid)


class AddPosition(nn.Module):
    """Adds positions to what a stem gives: `x + neuron(position(x))` (sew) or `x + position(neuron(x))` (ms)."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.residual = config.residual
        self.position = position(config, stage)
        fires = self.position is not None and (config.residual == "sew" or isinstance(self.position, ConvPosition))
        self.neuron: nn.Module = neuron() if fires else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.position is None:
            return x
        added: Tensor
        added = self.position(self.neuron(x)) if self.residual == "ms" else self.neuron(self.position(x))
        return x + added


class SPS(nn.Module):
    """Spiking Patch Splitting: Spikformer's (Zhou et al. 2023) with sew, Spikingformer's tokenizer with ms.

    Of the spikes x of the convolutions it makes `x + neuron(position(x))` (sew), or ends in the position layer, a fifth
    convolution and batch norm (ms), or in learned positions, `x + position` (ms).
    """

    pool_first = False

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.residual = config.residual
        self.chain = Convs(config, neuron, stage, pool_first=self.pool_first)
        self.position = position(config, stage)
        self.neuron = neuron() if self.position is not None and config.residual == "sew" else None

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.chain(x)
        if self.position is None:
            return spikes
        current: Tensor = self.position(spikes)
        if self.neuron is not None:
            fired: Tensor = self.neuron(current)
            return spikes + fired
        return current if isinstance(self.position, ConvPosition) else spikes + current


class SPSCML(SPS):
    """SPS that pools before the neurons (Zhou et al. 2024, ConvBN-MaxPooling-LIF), so that gradients pass the pool."""

    pool_first = True


class MSSPS(nn.Module):
    """The stem of the Spike-driven Transformer (Yao et al. 2023): `x + position(neuron(x))` of the membranes x.

    With sew, a last layer of neurons turns the sum into spikes.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.chain = Convs(config, neuron, stage, last_neuron=False)
        self.position = position(config, stage)
        self.neuron: nn.Module = neuron() if isinstance(self.position, ConvPosition) else nn.Identity()
        self.last_neuron = neuron() if config.residual == "sew" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.chain(x)
        if self.position is not None:
            x = x + self.position(self.neuron(x))
        out: Tensor = self.last_neuron(x)
        return out
