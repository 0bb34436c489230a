"""What the classifier reads of the last map x_TBCHW: the mean over tokens, or all tokens of all steps at once.

| head | input of the classifier | paper | keys |
| --- | --- | --- | --- |
| `mean` | the mean over tokens | Zhou et al. 2023 | |
| `spatio_temporal` | `BN(DW(x))` over all tokens and steps | Zhang et al. 2024 | `img_size`, `patch_size`, `step` |
"""

from __future__ import annotations

from torch import Tensor, nn

from config.errors import ConfigError
from models.config import ModelConfig
from models.parts.layers import BatchNorm, Conv, InputKind, Layer
from models.parts.stages import Stage


class SpatioTemporal(Layer):
    """The head of SGLFormer (Zhang et al. 2024), x_TBCHW to [1, B, C]: a convolution over tokens and steps.

    Each channel has a kernel of `tokens` x T and a bias, then batch norm. A kernel smaller than the map slides over the
    tokens in row order, and the mean of its outputs is read.
    """

    def __init__(self, width: int, tokens: int, steps: int, *, fed: InputKind) -> None:
        super().__init__()
        self.kernel = (tokens, steps)
        self.conv = Conv(width, width, (tokens, steps), padding=0, groups=width, bias=True, fed=fed)
        self.bn = BatchNorm(width)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        T, N = x_TBCHW.shape[0], x_TBCHW.shape[3] * x_TBCHW.shape[4]
        tokens, steps = self.kernel
        if steps != T or tokens > N:
            raise ConfigError(
                f"the spatio-temporal head has a weight for each of {tokens} tokens and {steps} steps, as img_size and"
                f" step say (got {N} tokens, {T} steps)"
            )
        return self.bn(self.conv(x_TBCHW.flatten(3).permute(1, 2, 3, 0).unsqueeze(0))).mean((3, 4))


def readout(config: ModelConfig, stage: Stage, *, has_neuron: bool) -> SpatioTemporal | None:
    """Returns the layer of `head_layer: spatio_temporal`, or None for the mean over tokens."""
    if config.head_layer == "mean":
        return None
    fed: InputKind = "spikes" if has_neuron or config.residual == "sew" else "real"
    return SpatioTemporal(stage.width, stage.grid**2, config.step, fed=fed)


def features(x_TBCHW: Tensor, neuron: nn.Module, layer: SpatioTemporal | None) -> Tensor:
    """Returns what the classifier reads, [T, B, C] or, of all steps at once, [1, B, C].

    The head's neurons, if there are any, fire on the mean over tokens, or on each token that the layer reads.
    """
    out: Tensor = neuron(x_TBCHW.mean((3, 4))) if layer is None else layer(neuron(x_TBCHW))
    return out
