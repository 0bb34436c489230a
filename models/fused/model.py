"""Training of `K` models of one shape as one, with channels side by side and separate weights.

Grouped convolutions, batch norms over K C channels, neurons with constants per channel, and attentions of K H heads are
K models side by side. A fused model is a copy of its first member in which the layers with weights or constants are
replaced (`models.fused.layers`); all other code is the family's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.cost.counters import levels
from models.fused.layers import LAYERS, ManyNeurons, ManyTernaries
from models.parts.backbone import SpikingModel
from models.parts.encoding import encode


class FusedModel(nn.Module):
    """K models as one; modules and parameters have the same names as in each member.

    The members' weights become views of the fused ones: members can be evaluated, saved and loaded at any time.
    """

    def __init__(self, members: Sequence[SpikingModel]) -> None:
        super().__init__()
        self.size = len(members)
        self.body = copy.deepcopy(members[0])
        _replace(self.body, members)
        self._neurons = [module for module in self.body.modules() if isinstance(module, ManyNeurons | ManyTernaries)]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the members' logits [B, K, classes], the mean over all steps, of one input per member."""
        return self.forward_steps(inputs).mean(0)

    def forward_steps(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the members' logits of each step, [T, B, K, classes], of one input per member.

        Inputs are those of a single model: [B, C, H, W] or [B, T, C, H, W].
        """
        for neurons in self._neurons:
            neurons.reset()
        x = torch.cat(list(inputs), -3)
        still, config = x.dim() == 4, self.body.config
        steps = encode(x, config.encoding, config.step, training=self.training) if still else x.transpose(0, 1)
        return self.body.step_logits(steps)


def _replace(module: nn.Module, members: Sequence[nn.Module]) -> None:
    for name, child in module.named_children():
        theirs = [member.get_submodule(name) for member in members]
        if type(child) in LAYERS:
            setattr(module, name, LAYERS[type(child)](theirs))
        elif _has_tensors(child) or (levels(child) and not list(child.children())):
            raise ConfigError(f"{type(child).__name__} cannot be one of several models trained as one")
        else:
            _replace(child, theirs)
    if hasattr(module, "num_heads"):
        _merge_heads(module, members)


def _merge_heads(attention: Any, members: Sequence[Any]) -> None:
    """Sets the number of heads to that of all members, and the scale to one value per head."""
    attention.num_heads *= len(members)
    if hasattr(attention, "scale"):
        scales = [member.scale for member in members for _ in range(member.num_heads)]
        device = next(attention.parameters()).device
        attention.scale = torch.tensor(scales, device=device).view(-1, 1, 1)  # of x_TBHNd


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
