"""Sizes of a model from the names and shapes of its weights: depths, widths, classes and channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from config.errors import InfeasibleError
from models import registry
from models.build import create_model
from models.config import ModelConfig
from models.parts.stages import stages, stem_stage
from models.published.checkpoints import has_published_names

DEEPEST = 64
"""Largest number of blocks of a stage."""

NUMBER = re.compile(r"\d+")

BLOCK = re.compile(r"^(?:blocks|(?:stages|layers)\.(\d+))\.(\d+)\.")
EMBED = re.compile(r"^embeds\.(\d+)\..*weight$")
HIDDEN = re.compile(r"^(?:blocks|stages\.\d+)\.0\.mlp\.(?:fc1|up)\.conv\.weight$")


def infer_sizes(model: str, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the train-file keys that the weights of a model determine, by our names or the published ones.

    These are `num_classes`, `in_channels`, `embed_dim`, `depths`, `mlp_ratio`, `kd_head`, `wavelet_groups` and, by the
    published names, `variant`, as far as the family reads them; the number of heads and the timesteps leave no trace.
    Empty if the weights are of another family.
    """
    preset, shapes = _version(model, state_dict)
    if "head.weight" not in shapes or not any(map(BLOCK.match, shapes)):
        return {}
    found: dict[str, Any] = {"num_classes": shapes["head.weight"][0]}
    found["in_channels"] = next((shape[1] for shape in shapes.values() if len(shape) == 4), preset.in_channels)
    found["depths"] = _one_number(preset, "depths", _depths(shapes))
    lacks = registry.MODELS[preset.model].lacks
    if "embed_dim" not in lacks:
        found["embed_dim"] = _one_number(preset, "embed_dim", _widths(preset, shapes))
        found |= _mlp_ratio(preset, found, shapes)
    if "kd_head" not in lacks:
        found["kd_head"] = "head_kd.weight" in shapes
    if "variant" not in lacks:
        found["variant"] = preset.variant
    groups = [shape[0] for key, shape in shapes.items() if key.endswith(".haar_product.weight")]
    return found | ({"wavelet_groups": groups[0]} if groups else {})


def _version(model: str, state_dict: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, tuple[int, ...]]]:
    """Returns the preset, and the shapes by our names, of the version of a model that has most names of the weights."""
    variants = ({"variant": variant} for variant in registry.MODELS[model].variants)
    presets = [ModelConfig.model_validate({"model": model, **keys}) for keys in ({}, *variants)]
    found = [(preset, _by_our_names(preset, state_dict)) for preset in presets]
    return max(found, key=lambda version: len(version[1]))  # the authors', if both have the same number


def _by_our_names(preset: ModelConfig, state_dict: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors by our names, in the order of the model, from a model of deeper stages.

    Blocks are numbered in the names, so no stage has more of them than the largest number there, and one.
    """
    spread = registry.MODELS[preset.model].spread
    deepest = max((int(number) for key in state_dict for number in NUMBER.findall(key)), default=0) + 1
    count = spread.stages + (0 < spread.convs < spread.stages)
    kd_head = "kd_head" not in registry.MODELS[preset.model].lacks
    deep = preset.model_copy(update={"depths": (min(deepest, DEEPEST),) * count, "kd_head": kd_head})
    with torch.device("meta"):
        model = create_model(deep)
    keys = model.published if has_published_names(model, state_dict) else None
    found: dict[str, tuple[int, ...]] = {}
    for ours, value in model.state_dict().items():
        theirs = ours if keys is None else keys.key(ours)
        if theirs in state_dict:
            shape = tuple(state_dict[theirs].shape)
            found[ours] = shape + (1,) * (value.dim() - len(shape))
    return found


def _depths(shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Returns the number of blocks of each list of blocks."""
    blocks = [match for match in map(BLOCK.match, shapes) if match]
    counts: dict[int, int] = {}
    for match in blocks:
        stage = int(match[1] or 0)
        counts[stage] = max(counts.get(stage, 0), int(match[2]) + 1)
    return [counts.get(stage, 0) for stage in range(max(counts, default=0) + 1)]


def _widths(preset: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Returns the width of each stage, the largest number of channels in its embedding; of one stage, the head's."""
    widest: dict[int, int] = {}
    for key, shape in shapes.items():
        if (match := EMBED.match(key)) is not None and len(shape) == 1:
            widest[int(match[1])] = max(widest.get(int(match[1]), 0), shape[0])
    widths = [widest[stage] for stage in sorted(widest)] or [shapes["head.weight"][1]]
    return widths[-registry.MODELS[preset.model].spread.stages :]


def _one_number(preset: ModelConfig, key: str, values: list[int]) -> int | list[int]:
    """Returns the number from which the family computes these values of its stages, or else the list of them."""
    spread = registry.MODELS[preset.model].spread
    last = values[-1] / spread.widths[-1] if key == "embed_dim" else None
    candidates = range(sum(values) + spread.stages + 1) if last is None else [round(last)]
    for number in candidates:
        try:
            config = preset.model_copy(update={key: number})
            sizes = stages(config)
        except InfeasibleError:
            continue
        found = [stage.width if key == "embed_dim" else stage.depth for stage in sizes]
        if key == "depths" and len(values) > len(found):
            found = [stem_stage(config).depth, *found]
        if found == values:
            return number
    return values[0] if len(values) == 1 else values


def _mlp_ratio(
    preset: ModelConfig, found: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, float]:
    """Returns the ratio if the last stage's MLP shows another one than the preset's."""
    hidden = [shape[0] for key, shape in shapes.items() if HIDDEN.match(key)]
    last = stages(preset.model_copy(update={"embed_dim": _as_given(found["embed_dim"])}))[-1]
    if not hidden or hidden[-1] == last.hidden:
        return {}
    return {"mlp_ratio": hidden[-1] / last.width}


def _as_given(value: int | list[int]) -> int | tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else value
