"""Construction of a model from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from config.errors import ConfigError
from models import registry
from models.config import ModelConfig
from models.feasibility import check_feasible
from models.parts.backbone import SpikingModel


def create_model(config: ModelConfig | Mapping[str, Any]) -> SpikingModel:
    """Returns the model of a config, or of a mapping of train-file keys, initialised from torch's default generator.

    Raises ConfigError for unknown or wrong keys and InfeasibleError for sizes that do not fit together.
    """
    if not isinstance(config, ModelConfig):
        try:
            config = ModelConfig.model_validate(dict(config))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()
            )
            raise ConfigError(problems) from None
    check_feasible(config)
    model: SpikingModel = registry.load(registry.MODELS[config.model].path)(config)
    return model
