"""Exponential moving average (EMA) of the weights over the training steps."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models.parts.backbone import SpikingModel


class WeightEMA:
    """A model whose parameters are the moving average of those of the trained model.

    Update n, counted from 0, keeps the share `min(decay, (1 + n) / (10 + n))` of the average. So the first epochs are
    measured with recent weights, not with those of the initialization; after `9 / (1 - decay)` updates the decay is
    constant.
    """

    def __init__(self, trained: SpikingModel, decay: float) -> None:
        self.model = copy.deepcopy(trained)
        self.decay, self.num_updates = decay, 0
        self._trained = trained
        self._parameters = list(trained.parameters())  # a training step on a GPU hides some from the model
        self._averages = list(self.model.parameters())

    def update(self) -> None:
        """Moves the average towards the trained weights, after an optimizer step."""
        n = self.num_updates
        move = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
        move(self._averages, self._parameters, None)
        self.num_updates += 1

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Copies the trained model's buffers: statistics of the data are not averaged over steps."""
        for average, trained in zip(self.model.buffers(), self._trained.buffers(), strict=True):
            average.copy_(trained)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint needs besides the average: the trained weights and the number of updates."""
        return {"trained": self._trained.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, average: dict[str, Any], state: dict[str, Any]) -> None:
        """Loads the average and a state of `state_dict`, the trained weights included."""
        self.model.load_state_dict(average)
        self._trained.load_state_dict(state["trained"])
        self.num_updates = state["num_updates"]
