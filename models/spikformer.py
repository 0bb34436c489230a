"""Spikformer (Zhou et al., ICLR 2023, "Spikformer: When Spiking Neural Network Meets Transformer").

Residuals add spikes to spikes (SEW), so the layers behind them see small integers; the head sees the mean over tokens.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from models import registry
from models.backbone import SpikingModel
from models.config import ModelConfig
from models.layers import BatchNorm, Conv, Head
from models.neurons import NeuronFactory, neuron_factory
from models.published import Rules


class MLP(nn.Module):
    """Two 1x1 layers, each conv-BN-neuron, with a hidden width of mlp_ratio x C."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory) -> None:
        super().__init__()
        width, hidden = config.embed_dim, int(config.embed_dim * config.mlp_ratio)
        self.fc1_conv = Conv(width, hidden, bias=True)
        self.fc1_bn = BatchNorm(hidden)
        self.fc1_neuron = neuron()
        self.fc2_conv = Conv(hidden, width, bias=True)
        self.fc2_bn = BatchNorm(width)
        self.drop = nn.Dropout(config.mlp_drop)
        self.fc2_neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1_neuron(self.fc1_bn(self.fc1_conv(x)))
        out: Tensor = self.fc2_neuron(self.drop(self.fc2_bn(self.fc2_conv(x))))
        return out


class Block(nn.Module):
    """`x = x + attn(x); x = x + mlp(x)`."""

    def __init__(self, config: ModelConfig, neuron: NeuronFactory) -> None:
        super().__init__()
        self.attn = registry.load(registry.ATTENTIONS[config.attn_layer])(config, neuron)
        self.mlp = MLP(config, neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class Spikformer(SpikingModel):
    """Stem, `depths` blocks, mean over tokens, linear head."""

    published_rules: ClassVar[Rules] = (
        (r"^stem\.stages\.0\.(conv|bn)", r"patch_embed.proj_\1"),
        (r"^stem\.stages\.(\d)\.(conv|bn)", r"patch_embed.proj_\2\1"),
        (r"^stem\.", "patch_embed."),
        (r"^blocks\.(.*)_conv\.", r"block.\1_linear."),
        (r"^blocks\.", "block."),
    )
    published_dead: ClassVar[str] = r"block\.\d+\.norm[12]\.(weight|bias)"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        neuron = neuron_factory(config)
        self.stem = registry.load(registry.STEMS[config.embed_layer])(config, neuron)
        self.blocks = nn.Sequential(*(Block(config, neuron) for _ in range(config.depths)))
        self.head = Head(config.embed_dim, config.num_classes, fed="real")
        self.apply(_init)

    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        tokens = self.blocks(self.stem(x_TBCHW))
        out: Tensor = self.head(tokens.mean((3, 4)))
        return out

    def published_shape(self, key: str, value: Tensor) -> tuple[int, ...]:
        """The published CIFAR code has linear layers where ours has 1x1 convolutions."""
        return tuple(value.shape[:2]) if key.endswith("_linear.weight") else tuple(value.shape)


def _init(module: nn.Module) -> None:
    """The published initialisation: 1x1 layers and the head from a truncated normal, 3x3 convolutions as PyTorch's."""
    if isinstance(module, Head) or (isinstance(module, Conv) and module.kernel_size == (1, 1)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
