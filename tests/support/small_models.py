"""Keys that make each registered model small."""

from __future__ import annotations

from typing import Any

from models import registry

SMALL = {"num_classes": 3, "img_size": 16, "step": 3, "read_step": 3}
SMALL_WIDTH = 16
MODELS = sorted(registry.MODELS)
FAMILIES = tuple({name.split("_")[0]: name for name in reversed(MODELS)}.values())
"""One model per family."""


def shrink(name: str) -> dict[str, Any]:
    """Returns keys that make a model small: least width 16 or so, two heads, one block per stage."""
    preset = registry.MODELS[name]
    keys = {"model": name, **preset.keys, **SMALL}
    width, stages = keys["embed_dim"], preset.spread.stages
    if isinstance(width, tuple):
        keys["embed_dim"] = [SMALL_WIDTH * (i + 1) for i in range(len(width))]
    else:
        keys["embed_dim"] = SMALL_WIDTH if preset.spread.widths[0] == 1.0 else SMALL_WIDTH * 4
    keys["num_heads"] = 2
    keys["depths"] = 1 if stages == 1 else [1] * stages
    if preset.spread.widths[0] == 1.0:
        keys["patch_size"] = 4
    return keys
