"""Spiking transformers built from shared parts.

`from_config("configs/spikformer/digits.yml")` builds the model of a train file; `create_model(config)` and
`timm.create_model(name, **keys)` build one from keys. docs/own-loop.md shows how to train and measure it.

Importing this package does not import torch. timm knows the model names once both packages are imported, in any order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from config.errors import ConfigError, InfeasibleError
from models import timm_entry
from models.config import ModelConfig
from models.feasibility import check_feasible

if TYPE_CHECKING:
    from models.build import create_model, from_config
    from models.cost.meter import Meter, count_parameters
    from models.exits.stepwise import with_exits
    from models.published.checkpoints import load_published, load_weights, save_published
    from models.published.weights_file import read_weights

__all__ = [
    "ConfigError",
    "InfeasibleError",
    "Meter",
    "ModelConfig",
    "check_feasible",
    "count_parameters",
    "create_model",
    "from_config",
    "load_published",
    "load_weights",
    "read_weights",
    "save_published",
    "with_exits",
]

_LAZY = {
    "Meter": "models.cost.meter",
    "count_parameters": "models.cost.meter",
    "create_model": "models.build",
    "from_config": "models.build",
    "load_published": "models.published.checkpoints",
    "load_weights": "models.published.checkpoints",
    "read_weights": "models.published.weights_file",
    "save_published": "models.published.checkpoints",
    "with_exits": "models.exits.stepwise",
}

timm_entry.install()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, those imported on first use included."""
    return sorted(__all__)
