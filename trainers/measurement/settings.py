"""Train file of a weights file: the given one, the one beside it, or a recipe with the sizes that the weights show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import strict_yaml
from config.document import Document
from config.errors import ConfigError, unknown_name
from config.step_names import DATASET_ALIASES, canonical_name
from config.strict_yaml import override
from models import registry
from models.parts.stages import stages, stem_stage
from trainers import config as train_file
from trainers.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

STAGED = ("embed_dim", "depths")
SIZES = ("embed_dim", "depths", "mlp_ratio", "num_classes", "in_channels", "kd_head", "variant", "wavelet_groups")


@dataclass(frozen=True)
class Settings:
    """The config of a measurement, and where it comes from, in words."""

    config: TrainConfig
    source: str


def check_model(name: str | None) -> str | None:
    """Returns our name of a model. Raises ConfigError for an unknown one."""
    found = canonical_name(name)
    if name is not None and found not in registry.MODELS:
        raise ConfigError(f"--model: {unknown_name('model', name, registry.MODELS)}")
    return None if found is None else str(found)


def from_file(path: Path, model: str | None, overrides: Sequence[str]) -> Settings:
    """Returns the settings of a train file. Raises ConfigError if it is of another model than the named one."""
    config = train_file.load(path, overrides=overrides)
    if model not in (None, config.model):
        raise ConfigError(f"--model {model}: {path} is of {config.model}; leave one of them out")
    return Settings(config, str(path))


def from_weights(model: str, tensors: Mapping[str, Tensor], overrides: Sequence[str]) -> Settings:
    """Returns the settings of the nearest recipe, with the sizes of the weights and the `key=value` overrides.

    Raises ConfigError if the weights are of another model, or no recipe has its numbers of classes and channels.
    """
    from models.published.sizes import infer_sizes

    sizes = infer_sizes(model, tensors)
    if not sizes:
        first = ", ".join(list(tensors)[:3])
        raise ConfigError(f"--model {model}: the weights have other names than this model's (such as {first})")
    given = override(Document("", {}), overrides).data
    name, base = _base(model, sizes, given)
    changed = {key: sizes[key] for key in SIZES if key in sizes and not _is_of_size(base, key, sizes[key])}
    document = override(Document("", {**base, **changed}), overrides)
    shown = ", ".join(f"{key} {sizes[key]}" for key in SIZES[:4] if key in sizes)
    if "embed_dim" in changed and "num_heads" not in given and _reads_heads(model, document.data):
        text = "their num_heads, which leaves no trace in weights, is unknown: give --set num_heads=N"
        raise ConfigError(f"--model {model}: no recipe has the sizes of the weights ({shown}), so {text}")
    return Settings(train_file.parse(document), f"{name} (heads, steps and neurons are its); of the weights: {shown}")


def _reads_heads(model: str, keys: Mapping[str, Any]) -> bool:
    """Returns whether the number of heads changes what the model computes."""
    attention = keys.get("attn_layer", registry.MODELS[model].keys["attn_layer"])
    names = attention if isinstance(attention, list | tuple) else [attention]
    return any("num_heads" in registry.ATTENTION_KEYS.get(str(canonical_name(name)), ()) for name in names)


def _base(model: str, sizes: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the recipe of the model with the most equal sizes; if the given data set has none, the published keys.

    A recipe that trains on a part of the data stands for nobody's weights.
    """
    dataset = DATASET_ALIASES.get(str(given.get("dataset")), given.get("dataset"))
    classes, channels = sizes["num_classes"], given.get("in_channels", sizes["in_channels"])
    found: list[tuple[int, str, dict[str, Any]]] = []
    for name in sorted(f"{path.parent.name}/{path.stem}" for path in train_file.RECIPES.glob("*/*.yml")):
        data = train_file.canonical_data(strict_yaml.read(train_file.recipe_path(name)))
        if data.get("model") != model or dataset not in (None, data["dataset"]) or "train_images" in data:
            continue
        config = TrainConfig.model_validate(data)
        if dataset is not None or (config.num_classes, config.in_channels) == (classes, channels):
            equal = sum(_is_of_size(data, key, sizes[key]) for key in STAGED if key in sizes)
            found.append((-equal, f"recipe {name}", data))
    if found:
        return min(found, key=lambda item: item[:2])[1:]
    if dataset is not None:
        return f"published values of {model}", {"model": model, "dataset": dataset, "epochs": 1}
    raise ConfigError(
        f"--model {model}: no recipe has {classes} classes and {channels} channels; name the data set with "
        f"--set dataset=..., or give the train file with --config"
    )


def _is_of_size(data: Mapping[str, Any], key: str, value: Any) -> bool:
    """Returns whether a train file has a value already, or one that gives its stages the same size."""
    config = TrainConfig.model_validate(dict(data))
    if key not in STAGED:
        return bool(getattr(config, key) == value)
    wanted = config.model_copy(update={key: tuple(value) if isinstance(value, list) else value})
    return _stage_sizes(config, key) == _stage_sizes(wanted, key)


def _stage_sizes(config: TrainConfig, key: str) -> list[int]:
    sizes = [stem_stage(config), *stages(config)]
    return [stage.width if key == "embed_dim" else stage.depth for stage in sizes]
