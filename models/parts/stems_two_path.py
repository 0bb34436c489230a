"""Stems and stage embeddings with a shortcut: QKFormer's SPEDS and Max-Former's patch embedding.

The main path is a chain of 3x3 convolutions, some of which halve the map; a 1x1 shortcut leads from the input spikes
of one of them to the end. QKFormer ends in spikes, `LIF(main) + LIF(shortcut)` (sew), Max-Former in membranes,
`main + shortcut` (ms). x_TBCHW in (T = 1 for a still image), x_TBDhw out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import Conv, ConvNorm, InputKind, Layer, MaxPool, repeat_steps
from models.parts.stages import Stage, pools
from models.parts.stems import AddPosition


@dataclass(frozen=True)
class ConvSpec:
    """One convolution: output width, and whether it halves the map by pooling or by its stride."""

    width: int
    pool: bool = False
    stride: int = 1
    kernel: int = 3


class PooledConv(ConvNorm):
    """Convolution, batch norm and, if specified, a pool."""

    def __init__(self, width_in: int, spec: ConvSpec, fed: InputKind = "spikes") -> None:
        super().__init__(Conv(width_in, spec.width, spec.kernel, stride=spec.stride, fed=fed))
        self.pool = MaxPool() if spec.pool else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.pool is None else self.pool(x)


class TwoPath(Layer):
    """`main(x) + shortcut(s)`, s being the input spikes of main layer `start`; with sew each path ends in neurons.

    A still image is convolved once: the steps start at the first neurons.
    """

    def __init__(
        self,
        config: ModelConfig,
        neuron: NeuronFactory,
        width_in: int,
        main: Sequence[ConvSpec],
        shortcut: ConvSpec,
        start: int,
        *,
        fed: InputKind = "spikes",
    ) -> None:
        super().__init__()
        widths = [width_in, *(spec.width for spec in main)]
        self.step, self.start = config.step, start
        self.main = nn.ModuleList(PooledConv(widths[i], spec, "spikes" if i else fed) for i, spec in enumerate(main))
        self.neurons = nn.ModuleList(neuron() for _ in main[1:])
        self.shortcut = PooledConv(widths[start], shortcut)
        ends = config.residual == "sew"
        self.main_neuron = neuron() if ends else nn.Identity()
        self.shortcut_neuron = neuron() if ends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.main):
            if i > 0:
                x = self.neurons[i - 1](repeat_steps(x, self.step))
            if i == self.start:
                shortcut = self.shortcut_neuron(self.shortcut(x))
            x = conv(x)
        out: Tensor = self.main_neuron(x) + shortcut
        return out


def stem_layers(width: int, halvings: int, *, by_stride: bool) -> tuple[list[ConvSpec], ConvSpec, int]:
    """Returns the published main path, shortcut and start of the shortcut for a number of halvings of the map.

    Up to two halvings the first layer has half the width; from three on the widths double from an eighth.
    """
    if halvings == 2:
        halving = {"stride": 2} if by_stride else {"pool": True}
        main = [ConvSpec(width // 2, **halving), ConvSpec(width, **halving), ConvSpec(width)]
        return main, ConvSpec(width, stride=2, kernel=1), 1
    if halvings < 2:
        main = [ConvSpec(width // 2), ConvSpec(width, pool=halvings == 1)]
        return main, ConvSpec(width, stride=2**halvings, kernel=1), 1
    main = [ConvSpec(width // share, pool=i >= 4 - halvings) for i, share in enumerate((8, 4, 2, 1))]
    return main, ConvSpec(width, stride=4, kernel=1), 2


class SPEDS(TwoPath):
    """QKFormer's stem (Zhou et al. 2024, "spiking patch embedding with deformed shortcut"); it halves by pooling."""

    by_stride: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        main, shortcut, start = stem_layers(stage.width, stage.reduction.bit_length() - 1, by_stride=self.by_stride)
        super().__init__(config, neuron, config.in_channels, main, shortcut, start, fed="input")
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_position(super().forward(x))


class MaxFormerStem(SPEDS):
    """Max-Former's stem (Fang et al. 2025): the same paths, but two halvings are done by strides."""

    by_stride: ClassVar[bool] = True


class STMixerStem(Layer):
    """STMixer's stem (Deng et al. 2024): five 3x3 layers, beside a shortcut from the image itself to an eighth of D.

    The first layer keeps the size, the last log2(p) of the others have stride 2; the shortcut is p x p with stride p.
    Their membranes are the tokens; with sew, neurons make them spikes.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        super().__init__()
        width, poolings = stage.width, pools(config, stage.reduction)
        widths = (config.in_channels, width // 8, width // 4, width // 2, width, width - width // 8)
        strides = (1, *(2 if pool else 1 for pool in poolings))
        self.num_heads = 1  # of one model
        self.step, self.patch = config.step, 2 ** sum(poolings)
        self.main = nn.ModuleList(
            ConvNorm(Conv(widths[i], widths[i + 1], 3, stride=stride, fed="spikes" if i else "input"))
            for i, stride in enumerate(strides)
        )
        self.neurons = nn.ModuleList(neuron() for _ in range(4))
        patches = Conv(config.in_channels, width // 8, self.patch, stride=self.patch, padding=0, fed="input")
        self.shortcut = ConvNorm(patches)
        self.last_neuron = neuron() if config.residual == "sew" else nn.Identity()
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        out = self.main[0](x)
        for fire, layer in zip(self.neurons, list(self.main)[1:], strict=True):
            out = layer(fire(repeat_steps(out, self.step)))
        below, right = (-size % self.patch for size in x.shape[3:])
        patches = repeat_steps(self.shortcut(F.pad(x, (0, right, 0, below))), self.step)
        T, B, _, H, W = out.shape
        paths = [part.reshape(T, B, self.num_heads, -1, H, W) for part in (patches, out)]
        return self.add_position(self.last_neuron(torch.cat(paths, 3).flatten(2, 3)))


class StageEmbed(Layer):
    """Halves and widens the map between two stages: spikes to spikes (sew) or membranes to membranes (ms).

    `pool_first`: the first of the two convolutions pools, else the second. The shortcut has stride 2 (sew) or a pool
    (ms).
    """

    def __init__(
        self, config: ModelConfig, neuron: NeuronFactory, width_in: int, width: int, *, pool_first: bool
    ) -> None:
        super().__init__()
        membrane = config.residual == "ms"
        main = [ConvSpec(width, pool=pool_first), ConvSpec(width, pool=not pool_first)]
        shortcut = ConvSpec(width, pool=membrane, stride=1 if membrane else 2, kernel=1)
        self.neuron = neuron() if membrane else nn.Identity()
        self.paths = TwoPath(config, neuron, width_in, main, shortcut, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.paths(self.neuron(x))
