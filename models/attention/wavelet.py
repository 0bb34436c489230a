"""Wavelet token mixer of the Spiking Wavelet Transformer (Fang et al., ECCV 2024): no attention, no heads.

The 2-d Haar transform of the spikes, a product within groups of channels, the inverse transform, and two small
convolutions beside it. Ternary neurons stand between the two axes of a transform, so it takes additions only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.attention.ssa import Attention, dilation
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory, surrogate_of
from models.neurons.ternary import Ternary
from models.parts.blocks import Wiring
from models.parts.layers import BatchNorm, GroupProduct, InputKind, Layer, SharedConv, SpikeMatmul
from models.parts.stages import Stage


def haar_matrix(size: int) -> Tensor:
    """Returns the orthonormal Haar matrix [size, size] of a power of two, in float32 as in the published code.

    The upper rows are those of half the size with every entry twice, the lower ones 1, -1 on a pair each.
    """
    matrix = torch.ones(1, 1, dtype=torch.float32)
    while len(matrix) < size:
        doubled = matrix.repeat_interleave(2, 1)
        pairs = torch.kron(torch.eye(len(matrix), dtype=torch.float32), matrix.new_tensor([[1.0, -1.0]]))
        matrix = torch.cat([doubled, pairs])
    lengths: Tensor = matrix.norm(dim=1, keepdim=True)
    return matrix / lengths


class HaarMatrix(nn.Module):
    """The Haar matrix of a map's side."""

    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", haar_matrix(size), persistent=False)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Returns the matrix in the dtype of a map of its size."""
        sides, size = x_TBCHW.shape[3:], len(self.matrix)
        if tuple(sides) != (size, size):
            raise ConfigError(
                f"the wavelet mixer needs the size that it was made for, {size} x {size} tokens"
                f" (got {sides[0]} x {sides[1]})"
            )
        return self.matrix.to(x_TBCHW.dtype)


class HaarForward(Layer):
    """`H neuron(x H^T)`: the coefficients of spikes."""

    def __init__(self, haar: HaarMatrix, neuron: nn.Module, kind: InputKind) -> None:
        super().__init__()
        self.haar, self.neuron = haar, neuron
        self.rows, self.columns = SpikeMatmul("spikes", "real"), SpikeMatmul("real", kind)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.haar(x)
        return self.columns(matrix, self.neuron(self.rows(x, matrix.T)))


class HaarInverse(Layer):
    """`H^T neuron(neuron(x) H)`: the map of coefficients."""

    def __init__(self, haar: HaarMatrix, neurons: tuple[nn.Module, nn.Module], kind: InputKind) -> None:
        super().__init__()
        self.haar = haar
        self.in_neuron, self.neuron = neurons
        self.rows, self.columns = SpikeMatmul(kind, "real"), SpikeMatmul("real", kind)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.haar(x)
        return self.columns(matrix.T, self.neuron(self.rows(self.in_neuron(x), matrix)))


class FATM(Attention):
    """Frequency-Aware Token Mixer: `wavelet(s) + BN(conv1x1(s)) + BN(conv3x3(s))` of spikes s.

    `wavelet(s) = BN(inverse(BN(LIF(BN(forward(s))) * W)))`, with a matrix W for each of `wavelet_groups` groups of
    channels, which share the two convolutions. With `wiring.wavelet_in_series`, the model for events, the convolutions
    read `wavelet(s)` instead, and the 3x3 maximum follows s and `wavelet(s)`.
    """

    kind: InputKind = "signed"
    """Of the spikes within the transforms."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        width, groups = stage.width, config.wavelet_groups
        haar = HaarMatrix(stage.grid)
        inner = [self.transform_neuron(config, neuron) for _ in range(3)]
        self.in_series = wiring.wavelet_in_series
        self.dilation = dilation() if self.in_series else nn.Identity()
        self.haar_forward = HaarForward(haar, inner[0], self.kind)
        self.haar_forward_bn = BatchNorm(width)
        self.haar_neuron = neuron()
        self.haar_product = GroupProduct(width, groups)
        self.haar_multiply_bn = BatchNorm(width)
        self.haar_inverse = HaarInverse(haar, (inner[1], inner[2]), self.kind)
        self.haar_inverse_bn = BatchNorm(width)
        fed: InputKind = "real" if self.in_series else "spikes"
        self.conv1 = SharedConv(width // groups, 1, fed=fed)
        self.conv1_bn = BatchNorm(width)
        self.conv2 = SharedConv(width // groups, 3, fed=fed)
        self.conv2_bn = BatchNorm(width)

    def transform_neuron(self, config: ModelConfig, neuron: NeuronFactory) -> nn.Module:
        """Returns a layer of neurons within the transforms."""
        return Ternary(config.attn_threshold, surrogate_of(config))

    def mix(self, spikes: Tensor) -> Tensor:
        spikes = self.dilation(spikes)
        coefficients = self.haar_neuron(self.haar_forward_bn(self.haar_forward(spikes)))
        mixed = self.haar_inverse(self.haar_multiply_bn(self.haar_product(coefficients)))
        wavelet: Tensor = self.dilation(self.haar_inverse_bn(mixed))
        x = wavelet if self.in_series else spikes
        local = self.conv1_bn(self.conv1(x)) + self.conv2_bn(self.conv2(x))
        return local if self.in_series else wavelet + local


class FATMBinary(FATM):
    """FATM with binary neurons within the transforms, as in the STEP benchmark: coefficients below 0 are lost."""

    kind: InputKind = "spikes"

    def transform_neuron(self, config: ModelConfig, neuron: NeuronFactory) -> nn.Module:
        return neuron(config.attn_threshold)
