"""The base of all spiking models (time, state and read-out) and the isotropic transformer.

Shapes: `T` steps, `B` batch, `C` width, `N` tokens, `K` classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spikingjelly.activation_based import functional
from torch import Tensor, nn

from config.errors import ConfigError
from models import registry
from models.config import ModelConfig
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring, blocks, read_real_values
from models.parts.encoding import encode
from models.parts.layers import Conv, Head, InputKind, Layer, repeat_steps
from models.parts.published_keys import PublishedKeys
from models.parts.readouts import features, readout
from models.parts.stages import stages


class SpikingModel(Layer, ABC):
    """A classifier with one output per step. It resets its state, so calls do not depend on each other."""

    published: PublishedKeys | None = None
    """Parameter names of the published code, None if there is none."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def input_channels(self) -> tuple[int, ...]:
        """Returns the allowed numbers of input channels."""
        return (self.config.in_channels,)

    @property
    def is_causal(self) -> bool:
        """Returns whether the output at step t depends on the input up to step t only."""
        return self.config.is_causal

    @abstractmethod
    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        """Returns the logits of each step, [T, B, K], or [1, B, K] if the head reads all steps at once.

        The input has T = step maps or, for a still image, one.
        """

    def forward_steps(self, x: Tensor) -> Tensor:
        """Returns the output of each single step, [T, B, K]; the mean over the first t is the read-out at t.

        If the model is not causal, only the read-out at `step` is meant; a head that reads all steps at once gives its
        one output at each of them. `x` is a still image [B, C, H, W], shown at each of the `step` steps or encoded as
        spikes (`encoding`), or a sequence [B, T, C, H, W].
        """
        functional.reset_net(self)
        logits = repeat_steps(self.step_logits(self.as_steps(x)), self.config.step)
        functional.reset_net(self)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [B, K]: the mean over all steps in training, over the first `read_step` in evaluation."""
        steps = self.config.step if self.training else self.config.read_step
        return self.forward_steps(x)[:steps].mean(0)

    def as_steps(self, x: Tensor) -> Tensor:
        """Returns the input with its steps first; a still image has one step, or `step` steps if it is encoded."""
        if x.dim() not in (4, 5):
            raise ConfigError(f"input must be [B, C, H, W] or [B, T, C, H, W] (got {list(x.shape)})")
        if x.shape[-3] not in self.input_channels:
            allowed = " or ".join(map(str, self.input_channels))
            raise ConfigError(f"input must have C = {allowed} channels, as in_channels says (got {list(x.shape)})")
        if x.dim() == 4:
            return encode(x, self.config.encoding, self.config.step, training=self.training)
        if x.shape[1] != self.config.step:
            raise ConfigError(f"a sequence must have T = step frames (got T={x.shape[1]}, step={self.config.step})")
        return x.transpose(0, 1)


def init_linear(model: nn.Module) -> None:
    """Initialises the head; convolutions keep PyTorch's initial weights (Spikformer and successors)."""
    _truncated_normal(module for module in model.modules() if isinstance(module, Head))


def init_pointwise(model: nn.Module) -> None:
    """Initialises the head and the 1x1 convolutions, which are linear layers in the published code."""
    _truncated_normal(
        module
        for module in model.modules()
        if isinstance(module, Head) or (isinstance(module, Conv) and module.kernel_size == (1, 1))
    )


def init_convs(model: nn.Module) -> None:
    """Initialises all convolutions; the head keeps PyTorch's initial weights (SDT)."""
    _truncated_normal(module for module in model.modules() if isinstance(module, Conv))


def _truncated_normal(layers: Iterable[Conv | Head]) -> None:
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class Design:
    """The settings of an isotropic family; called with a config, it builds the model."""

    published: PublishedKeys
    wiring: Wiring = field(default_factory=Wiring)
    head_neuron: bool = False
    """Whether there are neurons between the mean over tokens and the head."""
    init: Callable[[nn.Module], None] = init_linear

    def __call__(self, config: ModelConfig) -> SpikingModel:
        return IsotropicTransformer(config, self)


@dataclass(frozen=True)
class Versions:
    """The designs of a family by the key `variant`; called with a config, it builds the model."""

    authors: Design
    step: Design

    def __call__(self, config: ModelConfig) -> SpikingModel:
        return {"authors": self.authors, "step": self.step}[config.variant](config)


class IsotropicTransformer(SpikingModel):
    """Stem, `depths` blocks of one width, mean over tokens, linear head."""

    def __init__(self, config: ModelConfig, design: Design) -> None:
        super().__init__(config)
        self.published = design.published
        neuron = neuron_factory(config)
        (stage,) = stages(config)
        self.stem = registry.load(registry.STEMS[config.embed_layer])(config, neuron, stage)
        self.blocks = blocks(config, neuron, stage, design.wiring)
        if config.embed_layer == "sequential_embed" and config.residual == "sew":
            read_real_values(self.blocks)
        self.head_neuron = neuron() if design.head_neuron else nn.Identity()
        self.readout = readout(config, stage, has_neuron=design.head_neuron)
        fed: InputKind = "spikes" if design.head_neuron and self.readout is None else "real"
        self.head = Head(stage.width, config.num_classes, fed=fed)
        design.init(self)

    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        tokens = self.blocks(self.stem(x_TBCHW))
        return self.head(features(tokens, self.head_neuron, self.readout))
