"""Token mixer of STMixer (Deng et al., NeurIPS 2024): learned matrices over the tokens in place of an attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.attention.ssa import Attention
from models.config import ModelConfig
from models.neurons.nodes import NeuronFactory
from models.parts.blocks import Unit, Wiring
from models.parts.layers import BatchNorm, Conv
from models.parts.stages import Stage


class TokenMix(Attention):
    """`BN(proj(LIF(W_g LIF(BN(fc(x))))))`: the channels of group g are mixed over tokens by one N x N matrix.

    There are num_heads groups. The matrices belong to the number of tokens, so to one size of images.
    """

    def __init__(self, config: ModelConfig, neuron: NeuronFactory, stage: Stage, wiring: Wiring) -> None:
        super().__init__(config, neuron)
        tokens = stage.grid**2
        self.num_heads = 1  # of one model
        self.tokens = tokens
        self.fc = Unit(Conv(stage.width, stage.width, bias=wiring.qkv_bias), neuron(), "sew")
        self.matrices = nn.ModuleList(Conv(tokens, tokens) for _ in range(stage.num_heads))
        self.drop = nn.Dropout(config.attn_drop)
        self.attn_neuron = neuron(config.attn_threshold)
        self.proj_conv = Conv(stage.width, stage.width, bias=wiring.proj_bias)
        self.proj_bn = BatchNorm(stage.width)

    def mix(self, spikes: Tensor) -> Tensor:
        x = self.fc(spikes).flatten(3)
        T, B, _, N = x.shape
        if self.tokens != N:
            raise ConfigError(
                f"TokenMix has a weight for each of the {self.tokens} tokens that img_size gave (got {N})"
            )
        groups = x.reshape(T, B, self.num_heads, len(self.matrices), -1, N).transpose(4, 5)  # tokens as channels
        mixed = torch.stack(
            [
                matrix(groups[:, :, :, g].flatten(2, 3).unsqueeze(4)).reshape(T, B, self.num_heads, N, -1)
                for g, matrix in enumerate(self.matrices)
            ],
            3,
        )
        mixed = mixed.transpose(4, 5).reshape(spikes.shape)
        return self.proj_bn(self.proj_conv(self.attn_neuron(self.drop(mixed))))
