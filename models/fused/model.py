"""Several models of one shape as one, for training: their channels side by side, their weights still their own.

Grouped convolutions, batch norms over K C channels, neurons whose constants go by channel, and attentions of K H heads
are K models next to each other. So a fused model is a copy of its first member in which the layers that have weights
or constants are exchanged (`models.fused.layers`); everything else is the family's own code.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.cost.counters import levels
from models.fused.layers import LAYERS, ManyNeurons
from models.parts.backbone import SpikingModel


class FusedModel(nn.Module):
    """K models as one; modules and parameters have the names that they have in each member.

    The members' weights are views of the fused ones from here on: they can be evaluated, saved and loaded at any time.
    """

    def __init__(self, members: Sequence[SpikingModel]) -> None:
        super().__init__()
        self.size = len(members)
        self.body = copy.deepcopy(members[0])
        _exchange(self.body, members)
        self._neurons = [module for module in self.body.modules() if isinstance(module, ManyNeurons)]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the members' logits [B, K, classes], the mean over all steps, of an input for each member.

        Inputs are as a single model's: [B, C, H, W] or [B, T, C, H, W].
        """
        for neurons in self._neurons:
            neurons.reset()
        x = torch.cat(list(inputs), -3)
        logits = self.body.step_logits(x.unsqueeze(0) if x.dim() == 4 else x.transpose(0, 1))
        return logits.mean(0)


def _exchange(module: nn.Module, members: Sequence[nn.Module]) -> None:
    for name, child in module.named_children():
        theirs = [member.get_submodule(name) for member in members]
        if type(child) in LAYERS:
            setattr(module, name, LAYERS[type(child)](theirs))
        elif _has_tensors(child) or (levels(child) and not list(child.children())):
            raise ConfigError(f"{type(child).__name__} cannot be one of several models trained as one")
        else:
            _exchange(child, theirs)
    if hasattr(module, "num_heads"):
        _put_in_a_row(module, members)


def _put_in_a_row(attention: Any, members: Sequence[Any]) -> None:
    """Gives an attention the heads of all members, and the heads of each its own scale."""
    attention.num_heads *= len(members)
    if hasattr(attention, "scale"):
        of_heads = [member.scale for member in members for _ in range(member.num_heads)]
        attention.scale = torch.tensor(of_heads, device=next(attention.parameters()).device).view(
            -1, 1, 1
        )  # of x_TBHNd


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
