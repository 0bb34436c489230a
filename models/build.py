"""Construction of a model from its config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from config import strict_yaml
from config.document import ARGUMENTS, Document, Location
from config.errors import ConfigError, InfeasibleError
from config.messages import cross_field_problem
from models import registry
from models.config import ModelConfig
from models.feasibility import check_feasible
from models.neurons.mixture import size_gates
from models.parts.backbone import SpikingModel
from models.parts.quantized import quantize_weights
from models.shapes import WithoutValues
from models.train_file import read_model

WEIGHTS = (".safetensors", ".pt", ".pth")
Source = str | os.PathLike[str] | Mapping[str, Any] | ModelConfig


def create_model(config: ModelConfig | Mapping[str, Any]) -> SpikingModel:
    """Returns the model of a config, or of a mapping of train-file keys, initialised from torch's default generator.

    Of a mapping, the keys that do not concern the model are ignored. Raises ConfigError for unknown keys and wrong
    values, and InfeasibleError for sizes that do not fit together.
    """
    if not isinstance(config, ModelConfig):
        config = read_model(Document("", dict(config)))
    check_feasible(config)
    model: SpikingModel = registry.load(registry.MODELS[config.model].path)(config)
    if config.node_type == "HDLIFNode":
        size_gates(model, torch.zeros(1, config.in_channels, config.img_size, config.img_size))
    if config.quant_bits is not None:
        published = registry.MODELS[config.model].keys.get("quant_bits") is not None
        quantize_weights(model, config.quant_bits, published=published)
    return model


def shape_model(config: ModelConfig) -> SpikingModel:
    """Returns the model of a config on the device `meta`: without memory or values, for what its shapes determine."""
    with torch.device("meta"), WithoutValues():
        return create_model(config)


def from_config(source: Source, **changes: Any) -> SpikingModel:
    """Returns the model of a train file, by path or as a mapping; `changes` are keys with other values.

    The path may be an exported file, a recipe or the model file of the two-file form. Errors are those of
    `create_model`, with file and line.
    """
    if isinstance(source, ModelConfig):
        source = source.model_dump()
    if isinstance(source, Mapping):
        return create_model({**source, **changes})
    document = _read(Path(source))
    sources: dict[Location, str] = {(key,): ARGUMENTS for key in changes}
    document = replace(document, data={**document.data, **changes}, sources=sources)
    config = read_model(document)
    try:
        return create_model(config)
    except InfeasibleError as error:
        raise InfeasibleError(document.sentence(cross_field_problem(str(error), document))) from None


def _read(path: Path) -> Document:
    if path.suffix in WEIGHTS:
        text = "holds weights; give the train file that describes the model, then call load_state_dict"
        raise ConfigError(f"{path}: {text}")
    return strict_yaml.read(path, tolerant=True)
