"""Attentions, x_TBCHW to x_TBCHW: `H` heads of width `d` = C / H, `N` = height x width tokens, no softmax."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import BatchNorm, Conv, Layer, SpikeMask, SpikeMatmul, Stack, scaled
from models.parts.stages import Stage

LEARNABLE_SCALE_START = 0.125


class Attention(Layer, ABC):
    """The first branch of a block: `neuron(mix(x))` where shortcuts add spikes (sew), else `mix(neuron(x))`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory) -> None:
        super().__init__()
        self.residual = config.residual
        self.outer_neuron = neuron()

    @abstractmethod
    def mix(self, spikes: Tensor) -> Tensor:
        """Returns the output of the last batch norm, for spikes or sums of spikes."""

    def forward(self, x: Tensor) -> Tensor:
        if self.residual == "ms":
            return self.mix(self.outer_neuron(x))
        spikes: Tensor = self.outer_neuron(self.mix(x))
        return spikes

    def add_projection(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        """Adds dropout and neurons of the attention product, and the output layer; the last parts of an attention."""
        self.drop = nn.Dropout(config.attn_drop)
        self.attn_neuron = neuron(config.attn_threshold)
        self.proj_conv: Conv | Stack = Conv(stage.width, stage.width, bias=wiring.proj_bias)
        self.proj_bn = BatchNorm(stage.width)


class Identity(Layer):
    """No attention: adds nothing, so the block is its MLP."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def attention_scale(config: ModelConfig, stage: Stage) -> float | nn.Parameter:
    """Returns the factor on the attention product: a number, 1/sqrt(d), or a parameter that starts at 0.125."""
    if config.attn_scale == "learnable":
        return nn.Parameter(torch.tensor(LEARNABLE_SCALE_START))
    if config.attn_scale == "head_dim":
        return float(stage.head_width**-0.5)
    return config.attn_scale


def split_heads(x_TBCHW: Tensor, num_heads: int) -> Tensor:
    """Returns [T, B, H, N, d]."""
    T, B, C, H, W = x_TBCHW.shape
    return x_TBCHW.reshape(T, B, num_heads, C // num_heads, H * W).transpose(3, 4)


def merge_heads(x_TBHNd: Tensor, like: Tensor) -> Tensor:
    """Returns x_TBCHW with the steps, batch and map size of `like`."""
    return x_TBHNd.transpose(3, 4).reshape(*x_TBHNd.shape[:2], -1, *like.shape[3:])


def projection(config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> Unit:
    """Returns the 1x1 layer, batch norm and neurons of Q, K or V."""
    return Unit(Conv(stage.width, stage.width, bias=wiring.qkv_bias), neuron(), "sew")


class SSA(Attention):
    """Spiking Self-Attention (Zhou et al. 2023, equation 6): `BN(proj(LIF((Q K^T) V * scale)))`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        self.num_heads = stage.num_heads
        self.scale = attention_scale(config, stage)
        self.q, self.k, self.v = (projection(config, neuron, stage, wiring) for _ in range(3))
        self.query: nn.Module = nn.Identity()
        self.kv_first = wiring.kv_first
        self.inner = SpikeMatmul("spikes", "spikes")
        self.outer = SpikeMatmul("spikes", "real") if self.kv_first else SpikeMatmul("real", "spikes")
        self.add_projection(config, neuron, stage, wiring)

    def mix(self, spikes: Tensor) -> Tensor:
        q, k, v = (split_heads(part(spikes), self.num_heads) for part in (self.q, self.k, self.v))
        q = self.query(q)
        if self.kv_first:
            mixed = self.outer(q, self.inner(k.transpose(3, 4), v))
        elif self._may_reorder(q):
            mixed = q @ (k.transpose(3, 4) @ v)
        else:
            mixed = self.outer(self.inner(q, k.transpose(3, 4)), v)
        mixed = merge_heads(scaled(mixed, self.scale), like=spikes)
        return self.proj_bn(self.proj_conv(self.attn_neuron(self.drop(mixed))))

    def _may_reorder(self, q_TBHNd: Tensor) -> bool:
        """Returns whether a training computes Q (K^T V) instead, which is cheaper: spikes give the same sums exactly.

        Evaluations keep the published order, in which operations are counted; half precision would round the sums.
        """
        is_exact = isinstance(self.query, nn.Identity) and q_TBHNd.dtype in (torch.float32, torch.float64)
        return self.training and is_exact and q_TBHNd.shape[3] > q_TBHNd.shape[4]


def RandomSSA(config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> SSA:  # noqa: N802
    """Returns SSA with fixed random Q and K layers (STEP benchmark, 2025): buffers, which no optimizer updates."""
    attention = SSA(config, neuron, stage, wiring)
    for conv in (attention.q.conv, attention.k.conv):
        for name, value in list(conv.named_parameters()):
            delattr(conv, name)
            conv.register_buffer(name, value.detach())
    return attention


def dilation() -> nn.Module:
    """Returns the 3x3 maximum over the last two axes of five, without change of size: spikes reach their neighbours."""
    return nn.MaxPool3d((1, 3, 3), stride=1, padding=(0, 1, 1))


class HeadDilation(Layer):
    """The 3x3 maximum over the tokens x channels of each head of x_TBCHW: an artefact of SDT's event model."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool = dilation()

    def forward(self, x: Tensor) -> Tensor:
        return merge_heads(self.pool(split_heads(x, self.num_heads)), like=x)


class SDSA(Attention):
    """Spike-Driven Self-Attention (Yao et al. 2023): `q * LIF(sum over tokens of k * v)`, masks and additions only."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        self.q, self.k, self.v = (projection(config, neuron, stage, wiring) for _ in range(3))
        self.dilation = dilation() if wiring.dilated else nn.Identity()
        self.head_dilation = HeadDilation(stage.num_heads) if wiring.dilated else nn.Identity()
        self.kv = SpikeMask("passed")
        self.mask = SpikeMask("left")
        self.add_projection(config, neuron, stage, wiring)

    def mix(self, spikes: Tensor) -> Tensor:
        q, k, v = self.q(spikes), self.dilation(self.k(spikes)), self.dilation(self.v(spikes))
        masked = self.head_dilation(self.kv(k, v))
        column = masked.sum((3, 4), keepdim=True, dtype=masked.dtype)  # autocast would give float32
        mask = self.attn_neuron(self.drop(column))
        return self.proj_bn(self.proj_conv(self.head_dilation(self.mask(q, mask))))
