"""Model keys of a train file. Does not import torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config import messages, step_names
from config.datasets import DATASETS
from config.document import Document
from models import registry
from models.config import ModelConfig

KEYS = frozenset(key for group in step_names.GROUPS.values() for key in group)
"""All keys of a train file."""

DATA_KEYS = ("num_classes", "img_size", "in_channels")
"""Model keys that a train file may leave to its data set."""


def file_beside(weights: Path) -> Path | None:
    """Returns the train file of a run's checkpoint (`../train.yml`) or of exported weights (same stem), if any."""
    candidates = [weights.with_suffix(".yml")]
    if weights.parent.name == "checkpoints":
        candidates.append(weights.parent.parent / "train.yml")
    return next((path for path in candidates if path.is_file()), None)


def read_model(document: Document) -> ModelConfig:
    """Returns the model of a train file; keys of data, augmentation and training are ignored.

    Raises ConfigError for unknown keys and wrong values.
    """
    if "space" in document.data and "model" not in document.data:
        text = "is a space file, which is searched (python -m search.run), not a train file"
        document.refuse([document.problem(("space",), text)])
    data = read_benchmark_model(document)
    known = KEYS | step_names.NO_EFFECT | ModelConfig.model_fields.keys()
    unknown = [document.problem((key,), messages.unknown_key(str(key), sorted(known))) for key in data.keys() - known]
    given = {key: value for key, value in data.items() if key in ModelConfig.model_fields}
    try:
        config = ModelConfig.model_validate({**_from_data_set(data), **given})
    except ValidationError as error:
        raise document.error([*unknown, *messages.problems_of(error, document, known)]) from None
    document.refuse(unknown)
    return config


def read_benchmark_model(document: Document) -> dict[str, Any]:
    """Returns the data of a file as the benchmark means it, with a warning where that is not what it says.

    The model sizes that the benchmark ignores are left out, and a model of which it has another version is that one.
    Raises ConfigError with one sentence for a model of the benchmark that is refused, whatever other keys it has.
    """
    name = document.data.get("model")
    if isinstance(name, str) and name in step_names.REFUSED["model"]:
        text = step_names.unknown("model", name, ())
        raise replace(document, problems=()).error([document.problem(("model",), text)])
    ignored = step_names.ignored_sizes(document.data)
    if ignored:
        problem = document.problem((next(iter(ignored)),), f"the benchmark's {name} ignores {', '.join(ignored)}")
        warnings.warn(f"{document.sentence(problem)}; its own sizes are built", stacklevel=3)
    data = {key: value for key, value in document.data.items() if key not in ignored}
    preset = registry.MODELS.get(str(step_names.canonical_name(name)))
    if preset is not None and "step" in preset.variants and "variant" not in data and step_names.is_of_benchmark(data):
        data["variant"] = "step"
        text = f"{name} is the benchmark's own version here, as the file has its spellings"
        warnings.warn(
            f"{document.sentence(document.problem(('model',), text))}; variant: authors gives the authors' network",
            stacklevel=3,
        )
    return data


def _from_data_set(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the model keys that follow from the data set."""
    name = data.get("dataset")
    info = DATASETS.get(step_names.DATASET_ALIASES.get(name, name), {}) if isinstance(name, str) else {}
    found = {key: info[key] for key in DATA_KEYS if key in info}
    return found if data.get("event_size") is None else {**found, "img_size": data["event_size"]}
