"""Loading of weights into a model: under our parameter names, or under those of the published code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from config.errors import ConfigError
from models.parts.backbone import SpikingModel
from models.parts.published_keys import PublishedKeys
from models.parts.quantized import is_step, restart_steps

CLASSIFIER = re.compile(r"head(_kd)?\.(weight|bias|quantizer\.(alpha|bound))")
"""Our names of the classifier's parameters."""

MAX_NAMED = 3


@dataclass
class Match:
    """Comparison of a state dict with a model: tensors that fit, by our names, and all others, by the dict's names."""

    fitting: dict[str, Tensor] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Names in the state dict's spelling of tensors that it lacks, by our names."""
    misshapen: dict[str, tuple[str, list[int], list[int]]] = field(default_factory=dict)
    """Name in the state dict's spelling, shape in the model and shape in the state dict, by our names."""
    unknown: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Returns whether every tensor fits, and none is left over."""
        return not (self.missing or self.misshapen or self.unknown)


def match(model: SpikingModel, state_dict: Mapping[str, Tensor], keys: PublishedKeys | None) -> Match:
    """Returns the comparison of a state dict with the model's; `keys` are the names of the published code, if any.

    Dead published keys are left out.
    """
    found = Match()
    unknown = {key for key in state_dict if keys is None or not re.fullmatch(keys.dead, key)}
    for ours, value in model.state_dict().items():
        theirs = ours if keys is None else keys.key(ours)
        shape = tuple(value.shape) if keys is None else keys.shape(theirs, value)
        unknown.discard(theirs)
        if theirs not in state_dict:
            found.missing[ours] = theirs
        elif tuple(state_dict[theirs].shape) != shape:
            found.misshapen[ours] = theirs, list(shape), list(state_dict[theirs].shape)
        else:
            found.fitting[ours] = torch.as_tensor(state_dict[theirs]).reshape(value.shape)
    found.unknown = sorted(unknown)
    return found


def load_published(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> None:
    """Loads a state dict with published key names into the model; known dead keys are ignored.

    Raises ConfigError naming the missing, misshapen and unknown keys; the model is then unchanged.
    """
    found = match(model, state_dict, _keys(model))
    if not found.is_exact:
        problems = [f"{key}: missing" for key in found.missing.values()]
        problems += [f"{key}: shape must be {want} (got {got})" for key, want, got in found.misshapen.values()]
        problems += [f"{key}: not a key of {model.config.model}" for key in found.unknown]
        raise ConfigError(f"this is not a published {model.config.model} of these sizes: " + "; ".join(problems[:20]))
    model.load_state_dict(found.fitting)


def has_published_names(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> bool:
    """Returns whether a state dict has the names of the published code rather than ours."""
    if model.published is None:
        return False
    ours = model.state_dict().keys()
    theirs = {model.published.key(key) for key in ours}
    return len(state_dict.keys() & theirs) > len(state_dict.keys() & ours)


def load_weights(model: SpikingModel, state_dict: Mapping[str, Tensor], *, refit: bool = False) -> list[str]:
    """Loads a state dict with our names, or the published ones. Returns the names of parameters that stay as they are.

    With `refit`, these are the classifier's if the numbers of classes differ, and weights may lack the steps of
    quantised ones, which then start from the weights. Counters of batch norm may be missing.
    Raises ConfigError that names some of the missing, misshapen and unknown keys; the model is then unchanged.
    """
    found = match(model, state_dict, model.published if has_published_names(model, state_dict) else None)
    kept = [key for key in found.missing if key.endswith("num_batches_tracked")]
    fresh: list[str] = []
    if refit:
        fresh = [key for key, (_, want, got) in found.misshapen.items() if _is_of_other_classes(key, want, got)]
        kept += [*fresh, *(key for key in found.missing if is_step(key))]
    for key in kept:
        found.missing.pop(key, None)
        found.misshapen.pop(key, None)
    if not found.is_exact:
        raise ConfigError(_mismatch(model, found))
    model.load_state_dict({**model.state_dict(), **found.fitting})
    restart_steps(model, kept)
    return fresh


def _is_of_other_classes(key: str, want: list[int], got: list[int]) -> bool:
    return CLASSIFIER.fullmatch(key) is not None and want[1:] == got[1:]


def _mismatch(model: SpikingModel, found: Match) -> str:
    """Returns what does not fit, with a few examples of each kind."""
    shapes = [f"{key} is {got} there and {want} in the model" for key, want, got in found.misshapen.values()]
    groups = (
        ("", shapes),
        ("it lacks ", list(found.missing.values())),
        (f"{model.config.model} of this config has no ", found.unknown),
    )
    return "; ".join(f"{start}{_some(names)}" for start, names in groups if names)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = len(listed) - MAX_NAMED
    return ", ".join(listed[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def save_published(model: SpikingModel) -> dict[str, Tensor]:
    """Returns the model's state with published key names and shapes, without the dead keys."""
    keys = _keys(model)
    renamed = {keys.key(key): value for key, value in model.state_dict().items()}
    return {key: value.detach().clone().reshape(keys.shape(key, value)) for key, value in renamed.items()}


def _keys(model: SpikingModel) -> PublishedKeys:
    if model.published is None:
        raise ConfigError(f"{model.config.model} has no published checkpoints")
    return model.published
