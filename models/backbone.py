"""What every spiking model shares: time, state and read-out; and the isotropic transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from spikingjelly.activation_based import functional
from torch import Tensor, nn

from models.config import ConfigError, ModelConfig


class SpikingModel(nn.Module, ABC):
    """A classifier with one output a step. It resets its own state, so calls do not depend on each other."""

    is_causal = True
    """Whether the output at step t depends on the input up to step t only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        """Returns the logits of each step, [T, B, K], of maps with T = step or, for a still image, T = 1."""

    def forward_steps(self, x: Tensor) -> Tensor:
        """Returns the output of each single step, [T, B, K]; the mean over the first t is the read-out at t.

        `x` is a still image [B, C, H, W], shown at each of the `step` steps, or a sequence [B, T, C, H, W].
        """
        functional.reset_net(self)
        logits = self.step_logits(self._as_steps(x))
        functional.reset_net(self)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [B, K]: the mean over all steps in training, over the first `read_step` in evaluation."""
        steps = self.config.step if self.training else self.config.read_step
        return self.forward_steps(x)[:steps].mean(0)

    def _as_steps(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return x.unsqueeze(0)
        if x.dim() != 5:
            raise ConfigError(f"input must be [B, C, H, W] or [B, T, C, H, W] (got {list(x.shape)})")
        if x.shape[1] != self.config.step:
            raise ConfigError(f"a sequence must have T = step frames (got T={x.shape[1]}, step={self.config.step})")
        return x.transpose(0, 1)
