"""Train-file keys that the construction of a part reads, recorded while it is built."""

from __future__ import annotations

from typing import Any

import torch

from models import registry
from models.catalogue.cost import HOST, at_size
from models.config import ModelConfig
from models.neurons.nodes import neuron_factory
from models.parts.blocks import Wiring
from models.parts.stages import stages

STAGE_KEYS = {
    "width": ("embed_dim",), "num_heads": ("num_heads",), "depth": ("depths",), "mlp_ratio": ("mlp_ratio",),
    "grid": ("img_size", "patch_size"), "reduction": ("patch_size",), "head_width": ("embed_dim", "num_heads"),
    "hidden": ("embed_dim", "mlp_ratio"),
}  # fmt: skip
"""The keys from which each size of a stage is computed."""


class _Recorder:
    """An object that records the names of the attributes that are read of another."""

    def __init__(self, target: object, found: set[str]) -> None:
        self._target = target
        self._found = found

    def __getattr__(self, name: str) -> Any:
        self._found.add(name)
        return getattr(self._target, name)


def stem_keys(name: str) -> tuple[str, ...]:
    """Returns the model keys that a stem reads, beyond those of its neurons."""
    return _keys_read(registry.STEMS[name])


def mlp_keys(name: str) -> tuple[str, ...]:
    """Returns the model keys that a feed-forward part reads, beyond those of its neurons."""
    return _keys_read(registry.MLPS[name], Wiring())


def _keys_read(path: str, *others: Any) -> tuple[str, ...]:
    part, found = registry.load(path), set[str]()
    for residual in ("sew", "ms"):
        config = at_size(HOST, depths=1, residual=residual)
        (stage,), sizes = stages(config), set[str]()
        with torch.device("meta"):
            part(_Recorder(config, found), neuron_factory(config), _Recorder(stage, sizes), *others)
        found.update(key for size in sizes for key in STAGE_KEYS.get(size, ()))
    return tuple(key for key in ModelConfig.model_fields if key in found)
