"""State dicts under the key names of the published code: what released checkpoints hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from config.errors import ConfigError
from models.parts.published_keys import HasPublishedKeys

if TYPE_CHECKING:
    from models.parts.backbone import SpikingModel


def load_published(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> None:
    """Fills the model from a state dict under the published key names; keys known to be dead are ignored.

    Raises ConfigError that names every key that is missing, of a wrong shape, or unknown; the model is then unchanged.
    """
    if not isinstance(model, HasPublishedKeys):
        raise ConfigError(f"{model.config.model} has no published checkpoints")
    keys, problems, filled = model.published, [], {}
    left = {key for key in state_dict if not re.fullmatch(keys.dead, key)}
    for ours, value in model.state_dict().items():
        theirs = keys.key(ours)
        left.discard(theirs)
        if theirs not in state_dict:
            problems.append(f"{theirs}: missing")
        elif tuple(state_dict[theirs].shape) != keys.shape(theirs, value):
            want, got = keys.shape(theirs, value), tuple(state_dict[theirs].shape)
            problems.append(f"{theirs}: shape must be {list(want)} (got {list(got)})")
        else:
            filled[ours] = torch.as_tensor(state_dict[theirs]).reshape(value.shape)
    problems += [f"{key}: not a key of {model.config.model}" for key in sorted(left)]
    if problems:
        raise ConfigError(f"this is no published {model.config.model} of these sizes: " + "; ".join(problems[:20]))
    model.load_state_dict(filled)


def save_published(model: SpikingModel) -> dict[str, Tensor]:
    """Returns the model's state under the published key names and shapes, without the dead keys."""
    if not isinstance(model, HasPublishedKeys):
        raise ConfigError(f"{model.config.model} has no published checkpoints")
    keys = model.published
    renamed = {keys.key(key): value for key, value in model.state_dict().items()}
    return {key: value.detach().clone().reshape(keys.shape(key, value)) for key, value in renamed.items()}
