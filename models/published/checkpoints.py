"""Conversion of state dicts between our parameter names and those of released checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from config.errors import ConfigError
from models.parts.backbone import SpikingModel
from models.parts.published_keys import PublishedKeys


def load_published(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> None:
    """Loads a state dict with published key names into the model; known dead keys are ignored.

    Raises ConfigError naming the missing, misshapen and unknown keys; the model is then unchanged.
    """
    keys, problems, loaded = _keys(model), [], {}
    unknown = {key for key in state_dict if not re.fullmatch(keys.dead, key)}
    for ours, value in model.state_dict().items():
        theirs = keys.key(ours)
        unknown.discard(theirs)
        shape = keys.shape(theirs, value)
        if theirs not in state_dict:
            problems.append(f"{theirs}: missing")
        elif tuple(state_dict[theirs].shape) != shape:
            problems.append(f"{theirs}: shape must be {list(shape)} (got {list(state_dict[theirs].shape)})")
        else:
            loaded[ours] = torch.as_tensor(state_dict[theirs]).reshape(value.shape)
    problems += [f"{key}: not a key of {model.config.model}" for key in sorted(unknown)]
    if problems:
        raise ConfigError(f"this is not a published {model.config.model} of these sizes: " + "; ".join(problems[:20]))
    model.load_state_dict(loaded)


def save_published(model: SpikingModel) -> dict[str, Tensor]:
    """Returns the model's state with published key names and shapes, without the dead keys."""
    keys = _keys(model)
    renamed = {keys.key(key): value for key, value in model.state_dict().items()}
    return {key: value.detach().clone().reshape(keys.shape(key, value)) for key, value in renamed.items()}


def _keys(model: SpikingModel) -> PublishedKeys:
    if model.published is None:
        raise ConfigError(f"{model.config.model} has no published checkpoints")
    return model.published
