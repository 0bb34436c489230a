"""Spiking transformers built from shared parts: `create_model(config)` or `timm.create_model(name, **keys)`.

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
    from models.build import create_model
    from models.published.checkpoints import load_published, save_published

__all__ = [
    "ConfigError",
    "InfeasibleError",
    "ModelConfig",
    "check_feasible",
    "create_model",
    "load_published",
    "save_published",
]

_LAZY = {
    "create_model": "models.build",
    "load_published": "models.published.checkpoints",
    "save_published": "models.published.checkpoints",
}

timm_entry.install()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
