"""Attentions: x_TBCHW to x_TBCHW. H heads of width d = C / H, N = height x width tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.layers import BatchNorm, Conv, SpikeMatmul
from models.neurons import NeuronFactory

LEARNABLE_SCALE_START = 0.125


def attention_scale(config: ModelConfig) -> float | nn.Parameter:
    """Returns the factor on the attention product: a number, 1/sqrt(d), or a parameter that starts at 0.125."""
    if config.attn_scale == "learnable":
        return nn.Parameter(torch.tensor(LEARNABLE_SCALE_START))
    if config.attn_scale == "head_dim":
        return float((config.embed_dim // config.num_heads) ** -0.5)
    return config.attn_scale


class SSA(nn.Module):
    """Spiking Self-Attention (Zhou et al. 2023, equation 6): `LIF(BN(proj(LIF((Q K^T) V * scale))))`, no softmax."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, *, qkv_bias: bool = True) -> None:
        super().__init__()
        width = config.embed_dim
        self.num_heads = config.num_heads
        self.scale = attention_scale(config)
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_conv", Conv(width, width, bias=qkv_bias))
            self.add_module(f"{name}_bn", BatchNorm(width))
            self.add_module(f"{name}_neuron", neuron())
        self.qk = SpikeMatmul("spikes", "spikes")
        self.qkv = SpikeMatmul("real", "spikes")
        self.drop = nn.Dropout(config.attn_drop)
        self.attn_neuron = neuron(config.attn_threshold)
        self.proj_conv = Conv(width, width, bias=True)
        self.proj_bn = BatchNorm(width)
        self.proj_neuron = neuron()

    def _project(self, name: str, x: Tensor) -> Tensor:
        """Returns the spikes of Q, K or V as [T, B, heads, N, d]."""
        conv, bn, fire = (self.get_submodule(f"{name}_{part}") for part in ("conv", "bn", "neuron"))
        spikes: Tensor = fire(bn(conv(x)))
        T, B, C = spikes.shape[:3]
        return spikes.reshape(T, B, self.num_heads, C // self.num_heads, -1).transpose(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._project(name, x) for name in "qkv")
        mixed = self.qkv(self.qk(q, k.transpose(3, 4)), v) * self.scale
        mixed = mixed.transpose(3, 4).flatten(2, 3).view_as(x)
        spikes = self.attn_neuron(self.drop(mixed))
        out: Tensor = self.proj_neuron(self.proj_bn(self.proj_conv(spikes)))
        return out
