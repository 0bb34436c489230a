"""Stems: from pixels or events to tokens. x_TBCHW in (T = 1 for a still image), x_TBDhw out with T = step."""

from __future__ import annotations

from torch import Tensor, nn

from models.config import ModelConfig
from models.layers import BatchNorm, Conv, InputKind, MaxPool
from models.neurons import NeuronFactory


def repeat_steps(x: Tensor, steps: int) -> Tensor:
    """Shows a still image's map, [1, B, ...], at every step; what has steps already is left alone."""
    return x.expand(steps, *x.shape[1:]) if x.shape[0] == 1 else x


class SPS(nn.Module):
    """Spiking Patch Splitting of Spikformer (Zhou et al. 2023): conv-BN-neuron-(pool), then a position part.

    Four stages widen to D/8, D/4, D/2, D; the last log2(patch_size) of them pool. The first convolution and its batch
    norm see a still image once, not T times: the copies would be identical.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory) -> None:
        super().__init__()
        widths = [config.in_channels, *(config.embed_dim // d for d in (8, 4, 2, 1))]
        pools = config.patch_size.bit_length() - 1
        self.step = config.step
        self.stages = nn.ModuleList()
        for i in range(4):
            fed: InputKind = "input" if i == 0 else "spikes"
            self.stages.append(
                nn.ModuleDict(
                    {
                        "conv": Conv(widths[i], widths[i + 1], 3, fed=fed),
                        "bn": BatchNorm(widths[i + 1]),
                        "neuron": neuron(),
                        "pool": MaxPool() if i >= 4 - pools else nn.Identity(),
                    }
                )
            )
        self.rpe_conv = Conv(config.embed_dim, config.embed_dim, 3)
        self.rpe_bn = BatchNorm(config.embed_dim)
        self.rpe_neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleDict)
            x = repeat_steps(stage["bn"](stage["conv"](x)), self.step)
            x = stage["pool"](stage["neuron"](x))
        position: Tensor = self.rpe_neuron(self.rpe_bn(self.rpe_conv(x)))
        return x + position
