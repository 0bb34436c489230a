"""Temporal efficient training (Deng et al., ICLR 2022): a loss on the output of each step.

Shapes: `T` steps, `B` batch, `K` classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.parts.backbone import SpikingModel

PULL_TARGET = 1.0
"""Constant towards which the weighted term pulls all outputs: the value in the authors' files."""


class TemporalEfficientTraining(nn.Module):
    """The loss `(1 - weight) mean_t base(o_t, y) + weight mean((o - PULL_TARGET)^2)` of outputs o [T, B, K].

    `base` is the loss of the output of one step, a mean over the batch. With weight 0 the loss is the mean of the
    steps' losses, an upper bound of the loss of the mean output.
    """

    def __init__(self, base: nn.Module, weight: float) -> None:
        super().__init__()
        self.base, self.weight = base, weight

    def forward(self, logits_TBK: Tensor, target: Tensor) -> Tensor:
        repeats = (len(logits_TBK), *(1 for _ in target.shape[1:]))
        loss: Tensor = self.base(logits_TBK.flatten(0, 1), target.repeat(repeats))
        if self.weight:
            loss = (1.0 - self.weight) * loss + self.weight * (logits_TBK - PULL_TARGET).square().mean()
        return loss


class StepOutputs(nn.Module):
    """A model whose output is that of each step, [T, B, K]; a module, as wrappers of the forward pass need one."""

    def __init__(self, model: SpikingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_steps(x)
