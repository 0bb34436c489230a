"""State dicts under the key names of the published code: what released checkpoints hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from models.backbone import SpikingModel
from models.config import ConfigError

Rules = tuple[tuple[str, str], ...]
"""Pairs of a pattern in our key and what the published code calls it, applied in order."""


@runtime_checkable
class HasPublishedKeys(Protocol):
    """A model whose published code is known."""

    published_rules: ClassVar[Rules]
    published_dead: ClassVar[str]  # a pattern: keys in released files that the published forward never reads

    def published_shape(self, key: str, value: Tensor) -> tuple[int, ...]:
        """Returns the shape under which the published code keeps the value."""


def _published_key(model: HasPublishedKeys, key: str) -> str:
    for pattern, name in model.published_rules:
        key = re.sub(pattern, name, key)
    return key


def load_published(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> None:
    """Fills the model from a state dict under the published key names; keys known to be dead are ignored.

    Raises ConfigError that names every key that is missing, of a wrong shape, or unknown; the model is then unchanged.
    """
    if not isinstance(model, HasPublishedKeys):
        raise ConfigError(f"{model.config.model} has no published checkpoints")
    problems, filled = [], {}
    left = {key for key in state_dict if not re.fullmatch(model.published_dead, key)}
    for ours, value in model.state_dict().items():
        theirs = _published_key(model, ours)
        left.discard(theirs)
        if theirs not in state_dict:
            problems.append(f"{theirs}: missing")
        elif tuple(state_dict[theirs].shape) != model.published_shape(theirs, value):
            want, got = model.published_shape(theirs, value), tuple(state_dict[theirs].shape)
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
    renamed = {_published_key(model, key): value for key, value in model.state_dict().items()}
    return {key: value.detach().clone().reshape(model.published_shape(key, value)) for key, value in renamed.items()}
