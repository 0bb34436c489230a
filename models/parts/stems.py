"""Stems: pixels or events to tokens. x_TBCHW in (T = 1 for a still image), x_TBDhw out with T = step.

The layers before the first neurons (convolution, batch norm, a pool) run once on a still image, not once per step.
With `residual: sew` a stem returns spikes or sums of spikes; with `ms` it may return membranes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config.errors import ConfigError
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, ConvNorm, Layer, MaxPool, repeat_steps
from models.parts.stages import Stage, pools


class Convs(Layer):
    """The 3x3 convolutions of Spikformer's stem and related ones: four, to D/8, D/4, D/2, D, or those of `shares`.

    conv-BN-neuron-(pool) each, or with `pool_first` conv-BN-(pool)-neuron; without `last_neuron` ends in BN-(pool).
    `poolings` says which ones pool.
    """

    def __init__(
        self,
        config: ModelConfig,
        neuron: NeuronFactory,
        stage: Stage,
        *,
        pool_first: bool = False,
        last_neuron: bool = True,
        shares: Sequence[int] = (8, 4, 2, 1),
        poolings: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        widths = [config.in_channels, *(stage.width // share for share in shares)]
        poolings = pools(config, stage.reduction) if poolings is None else poolings
        self.step = config.step
        self.pool_first = pool_first
        self.convs = nn.ModuleList(
            Conv(before, width, 3, fed="spikes" if i else "input")
            for i, (before, width) in enumerate(itertools.pairwise(widths))
        )
        self.bns = nn.ModuleList(BatchNorm(width) for width in widths[1:])
        self.pools = nn.ModuleList(MaxPool() if pool else nn.Identity() for pool in poolings)
        self.neurons = nn.ModuleList(neuron() for _ in range(len(shares) if last_neuron else len(shares) - 1))

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, bn, pool) in enumerate(zip(self.convs, self.bns, self.pools, strict=True)):
            x = bn(conv(x))
            if i == len(self.neurons):
                return repeat_steps(pool(x), self.step)
            fire = self.neurons[i]
            x = fire(repeat_steps(pool(x), self.step)) if self.pool_first else pool(fire(repeat_steps(x, self.step)))
        return x


class LearnedPosition(Layer):
    """One learned value per channel and token, the same for every step and image."""

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
        return self.map.to(spikes.dtype).expand_as(spikes)


def position(config: ModelConfig, stage: Stage) -> Layer | None:
    """Returns the position layer, from spikes to a current, or None.

    | position | added to the stem's spikes x | paper | keys |
    | --- | --- | --- | --- |
    | `rpe` | `BN(conv3x3(x))`, relative, for maps of any size | Zhou et al. 2023 | |
    | `learned` | one value per channel and token | Dosovitskiy et al. 2021 | `img_size`, `patch_size` |
    | `none` | nothing | | |
    """
    if config.pos_layer == "none":
        return None
    if config.pos_layer == "rpe":
        return ConvNorm(Conv(stage.width, stage.width, 3))
    return LearnedPosition(stage.width, stage.grid)


class AddPosition(Layer):
    """Adds positions to the output of a stem: `x + neuron(position(x))` (sew) or `x + position(neuron(x))` (ms)."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.residual = config.residual
        self.position = position(config, stage)
        fires = self.position is not None and (config.residual == "sew" or isinstance(self.position, ConvNorm))
        self.neuron: nn.Module = neuron() if fires else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.position is None:
            return x
        return x + (self.position(self.neuron(x)) if self.residual == "ms" else self.neuron(self.position(x)))


class SPS(Layer):
    """Spiking Patch Splitting: Spikformer's (Zhou et al. 2023) with sew, Spikingformer's tokenizer with ms.

    From the spikes x of the convolutions: `x + neuron(position(x))` (sew); `position(x)`, a fifth convolution and batch
    norm (ms); `x + position` with learned positions (ms).
    """

    shares: ClassVar[tuple[int, ...]] = (8, 4, 2, 1)
    pool_first: ClassVar[bool] = False
    adds_position: ClassVar[bool] = False
    """Whether ms gives `x + position(x)` with rpe too."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        poolings = pools(config, stage.reduction)[-len(self.shares) :]
        self.chain = Convs(config, neuron, stage, pool_first=self.pool_first, shares=self.shares, poolings=poolings)
        self.position = position(config, stage)
        self.neuron = neuron() if self.position is not None and config.residual == "sew" else None

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.chain(x)
        if self.position is None:
            return spikes
        current = self.position(spikes)
        if self.neuron is not None:
            current = self.neuron(current)
        elif isinstance(self.position, ConvNorm) and not self.adds_position:
            return current
        return spikes + current


class SPSCML(SPS):
    """SPS that pools before the neurons (Zhou et al. 2024, ConvBN-MaxPooling-LIF), so that gradients pass the pool."""

    pool_first: ClassVar[bool] = True


class SPSAdd(SPS):
    """SPS whose positions add to its spikes with ms too (STEP benchmark's version of SWformer, Fang et al. 2024)."""

    adds_position: ClassVar[bool] = True


class ShortSPS(SPS):
    """SPS of two convolutions, to D/4 and D, each of which may pool (STEP benchmark, 2025)."""

    shares: ClassVar[tuple[int, ...]] = (4, 1)


class PatchEmbed(Layer):
    """Spikes of non-overlapping patches, `neuron(conv(x))` (STEP benchmark, 2025), then positions.

    The convolution has the patch as kernel and stride, a bias and no batch norm. The benchmark adds learned positions
    to the spikes: `pos_layer: learned` with ms; with sew they pass neurons, so that blocks get spikes.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.step, self.patch = config.step, stage.reduction
        self.conv = Conv(
            config.in_channels, stage.width, self.patch, stride=self.patch, padding=0, bias=True, fed="input"
        )
        self.neuron = neuron()
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        below, right = (-size % self.patch for size in x.shape[3:])
        patches = self.conv(F.pad(x, (0, right, 0, below)))
        return self.add_position(self.neuron(repeat_steps(patches, self.step)))


class SGLStem(Layer):
    """SGLFormer's stem (Zhang et al. 2024) for CIFAR and events: five convolutions that pool before the neurons."""

    shares: ClassVar[tuple[int, ...]] = (6, 4, 2, 1, 1)
    pools_last: ClassVar[bool] = True
    """Whether the last four convolutions may pool, or the first four."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        poolings = pools(config, stage.reduction)
        poolings = (False, *poolings) if self.pools_last else (*poolings, False)
        self.chain = Convs(config, neuron, stage, pool_first=True, shares=self.shares, poolings=poolings)
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_position(self.chain(x))


class SGLStemIma2(SGLStem):
    """SGLFormer's stem for ImageNet (Zhang et al. 2024, `sglformer_ima2`): the last four convolutions may pool."""

    shares: ClassVar[tuple[int, ...]] = (8, 4, 2, 1, 1)


class SGLStemIma(SGLStemIma2):
    """SGLFormer's stem for ImageNet (Zhang et al. 2024, `sglformer_ima`): the first four convolutions may pool."""

    pools_last: ClassVar[bool] = False


class MSSPS(Layer):
    """The stem of the Spike-driven Transformer (Yao et al. 2023): `x + position(neuron(x))` of the membranes x.

    With sew, a last layer of neurons turns the sum into spikes.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        self.chain = Convs(config, neuron, stage, last_neuron=False)
        self.position = position(config, stage)
        self.neuron: nn.Module = neuron() if isinstance(self.position, ConvNorm) else nn.Identity()
        self.last_neuron = neuron() if config.residual == "sew" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.chain(x)
        if self.position is not None:
            x = x + self.position(self.neuron(x))
        out: Tensor = self.last_neuron(x)
        return out


class Prologue(Layer):
    """SpikingResformer's stem (Shi et al. 2024): convolution, batch norm, pools; neurons at the end with sew.

    The convolution is 3x3 where the map keeps its size, else 7x7 of stride 2. With three input channels, event frames
    of two polarities get their sum as the third, as in SpikingResformer's code.
    """

    bias: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        kernel, stride = (7, 2) if stage.reduction > 1 else (3, 1)
        self.step = config.step
        self.input_channels = (3, 2) if config.in_channels == 3 else (config.in_channels,)
        self.conv = Conv(config.in_channels, stage.width, kernel, stride=stride, bias=self.bias, fed="input")
        self.bn = BatchNorm(stage.width)
        self.pool = nn.Sequential(*(MaxPool() for _ in range(stage.reduction.bit_length() - 2)))
        self.neuron = neuron() if config.residual == "sew" else nn.Identity()
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.input_channels[0]:
            x = torch.cat((x, x.sum(2, keepdim=True)), 2)
        return self.add_position(self.neuron(repeat_steps(self.pool(self.bn(self.conv(x))), self.step)))


class Encode(Prologue):
    """The first layer of Spike-driven Transformer V2 and V3 (Yao et al. 2024): a prologue with bias."""

    bias: ClassVar[bool] = True
