"""Model keys of a train file. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from config import messages, step_names
from config.datasets import DATASETS
from config.document import Document
from models.config import ModelConfig

KEYS = frozenset(key for group in step_names.GROUPS.values() for key in group)
"""All keys of a train file."""

DATA_KEYS = ("num_classes", "img_size", "in_channels")
"""Model keys that a train file may leave to its data set."""


def read_model(document: Document) -> ModelConfig:
    """Returns the model of a train file; keys of data, augmentation and training are ignored.

    Raises ConfigError for unknown keys and wrong values.
    """
    data = document.data
    if "space" in data and "model" not in data:
        text = "is a space file, which is searched (python -m search.run), not a train file"
        document.refuse([document.problem(("space",), text)])
    known = KEYS | step_names.NO_EFFECT | ModelConfig.model_fields.keys()
    unknown = [document.problem((key,), messages.unknown_key(str(key), sorted(known))) for key in data.keys() - known]
    given = {key: value for key, value in data.items() if key in ModelConfig.model_fields}
    try:
        config = ModelConfig.model_validate({**_from_data_set(data), **given})
    except ValidationError as error:
        raise document.error([*unknown, *messages.problems_of(error, document, known)]) from None
    document.refuse(unknown)
    return config


def _from_data_set(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the model keys that follow from the data set."""
    name = data.get("dataset")
    info = DATASETS.get(step_names.DATASET_ALIASES.get(name, name), {}) if isinstance(name, str) else {}
    found = {key: info[key] for key in DATA_KEYS if key in info}
    return found if data.get("event_size") is None else {**found, "img_size": data["event_size"]}
