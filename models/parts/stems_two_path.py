"""Stems and stage embeddings with a shortcut: QKFormer's SPEDS and Max-Former's patch embedding.

Both are one picture: 3x3 convolutions in a row, some of which halve the map, and a 1x1 shortcut from the spikes that
enter one of them to the end. QKFormer ends in spikes, `LIF(main) + LIF(shortcut)` (sew), Max-Former in membranes,
`main + shortcut` (ms). x_TBCHW in (T = 1 for a still image), x_TBDhw out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.layers import BatchNorm, Conv, InputKind, MaxPool
from models.parts.stages import Stage
from models.parts.stems import AddPosition, repeat_steps


@dataclass(frozen=True)
class Layer:
    """One convolution: its width out, how it halves the map (not at all, by pooling, or by its stride)."""

    width: int
    pool: bool = False
    stride: int = 1
    kernel: int = 3


class Unit(nn.Module):
    """Convolution, batch norm, and a pooling where the layer has one."""

    def __init__(self, width_in: int, layer: Layer, fed: InputKind = "spikes") -> None:
        super().__init__()
        self.conv = Conv(width_in, layer.width, layer.kernel, stride=layer.stride, fed=fed)
        self.bn = BatchNorm(layer.width)
        self.pool = MaxPool() if layer.pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.bn(self.conv(x)))
        return out


class TwoPath(nn.Module):
    """`main(x) + shortcut(s)`, s the spikes that enter unit `start`; with sew each path ends in neurons.

    A still image is convolved once: the steps begin at the first neurons.
    """

    def __init__(
        self,
        config: ModelConfig,
        neuron: NeuronFactory,
        width_in: int,
        main: Sequence[Layer],
        shortcut: Layer,
        start: int,
        *,
        fed: InputKind = "spikes",
    ) -> None:
        super().__init__()
        widths = [width_in, *(layer.width for layer in main)]
        self.step, self.start = config.step, start
        self.main = nn.ModuleList(Unit(widths[i], layer, "spikes" if i else fed) for i, layer in enumerate(main))
        self.neurons = nn.ModuleList(neuron() for _ in main[1:])
        self.shortcut = Unit(widths[start], shortcut)
        ends = config.residual == "sew"
        self.main_neuron = neuron() if ends else nn.Identity()
        self.shortcut_neuron = neuron() if ends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for i, unit in enumerate(self.main):
            if i > 0:
                x = self.neurons[i - 1](repeat_steps(x, self.step))
            if i == self.start:
                shortcut = self.shortcut_neuron(self.shortcut(x))
            x = unit(x)
        out: Tensor = self.main_neuron(x) + shortcut
        return out


def stem_layers(width: int, halvings: int, *, by_stride: bool) -> tuple[list[Layer], Layer, int]:
    """Returns the main path, the shortcut and its start for a map that is halved so many times: the published ones.

    Up to two halvings the first layer has half the width, from three on the widths double from an eighth.
    """
    if halvings == 2:
        halving = {"stride": 2} if by_stride else {"pool": True}
        main = [Layer(width // 2, **halving), Layer(width, **halving), Layer(width)]
        return main, Layer(width, stride=2, kernel=1), 1
    if halvings < 2:
        main = [Layer(width // 2), Layer(width, pool=halvings == 1)]
        return main, Layer(width, stride=2**halvings, kernel=1), 1
    main = [Layer(width // share, pool=i >= 4 - halvings) for i, share in enumerate((8, 4, 2, 1))]
    return main, Layer(width, stride=4, kernel=1), 2


class SPEDS(TwoPath):
    """QKFormer's stem (Zhou et al. 2024, "spiking patch embedding with deformed shortcut"); it halves by pooling."""

    by_stride: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage) -> None:
        main, shortcut, start = stem_layers(stage.width, stage.reduction.bit_length() - 1, by_stride=self.by_stride)
        super().__init__(config, neuron, config.in_channels, main, shortcut, start, fed="input")
        self.add_position = AddPosition(config, neuron, stage)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.add_position(super().forward(x))
        return out


class MaxFormerStem(SPEDS):
    """Max-Former's stem (Fang et al. 2025): the same paths, but where a map is halved twice, by strides."""

    by_stride: ClassVar[bool] = True


class StageEmbed(nn.Module):
    """Halves the map and widens it between two stages: spikes to spikes (sew) or membranes to membranes (ms).

    `pool_first` says which of the two convolutions pools. The shortcut strides over spikes, and is pooled with ms.
    """

    def __init__(
        self, config: ModelConfig, neuron: NeuronFactory, width_in: int, width: int, *, pool_first: bool
    ) -> None:
        super().__init__()
        membrane = config.residual == "ms"
        main = [Layer(width, pool=pool_first), Layer(width, pool=not pool_first)]
        shortcut = Layer(width, pool=membrane, stride=1 if membrane else 2, kernel=1)
        self.neuron = neuron() if membrane else nn.Identity()
        self.paths = TwoPath(config, neuron, width_in, main, shortcut, 0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.paths(self.neuron(x))
        return out
