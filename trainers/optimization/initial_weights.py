"""Weights from which a training starts: the train file's `initial_checkpoint`. Imports torch on use only."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import ConfigError
from trainers.config import TrainConfig
from trainers.datasets import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from models.config import ModelConfig
    from models.parts.backbone import SpikingModel

WITHOUT_SHAPE = frozenset(
    {
        *("tau", "threshold", "attn_threshold", "act_function", "alpha", "attn_drop", "mlp_drop", "read_step"),
        *("tim_alpha", "tim_threshold", "token_keep", "num_classes"),
    }
)
"""Model keys on which it does not depend whether weights fit."""


def missing_file(path: str) -> str | None:
    """Returns the sentence for an initial checkpoint that does not exist, or None."""
    if Path(path).is_file():
        return None
    if Path(path).is_dir():
        return f"is a folder, not a weights file (got {path!r})"
    return f"no such file (got {path!r}; relative paths start at the working directory, {Path.cwd()})"


def load_initial_weights(model: SpikingModel, config: TrainConfig) -> None:
    """Loads the weights of the config's `initial_checkpoint`, if any. Warns if the classifier starts fresh.

    Raises DataError if the file is missing, and ConfigError if it cannot be read or does not fit the model.
    """
    if config.initial_checkpoint is None:
        return
    from models import load_weights, read_weights

    if (problem := missing_file(config.initial_checkpoint)) is not None:
        raise DataError(f"initial_checkpoint: {problem}")
    tensors = read_weights(Path(config.initial_checkpoint)).tensors
    try:
        fresh = load_weights(model, tensors, refit=True)
    except ConfigError as error:
        raise ConfigError(f"initial_checkpoint: {_misfit(config.initial_checkpoint, str(error))}") from None
    if fresh:
        text = f"is of other classes; its classifier ({', '.join(fresh)}) is not used and starts fresh"
        warnings.warn(f"initial_checkpoint: {config.initial_checkpoint} {text}", stacklevel=2)


def initial_weights_problem(config: TrainConfig) -> str | None:
    """Returns why the config's `initial_checkpoint` cannot be loaded into its model, or None; builds no weights.

    None also if the file is missing: then nothing is known. Raises ConfigError if it cannot be read.
    """
    path = config.initial_checkpoint
    if path is None or not Path(path).is_file():
        return None
    from models.config import ModelConfig

    keys = {key: getattr(config, key) for key in ModelConfig.model_fields if key not in WITHOUT_SHAPE}
    stamp = Path(path).stat()
    return _problem(ModelConfig(**keys), path, (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=1024)
def _problem(config: ModelConfig, path: str, stamp: tuple[int, int]) -> str | None:
    import torch

    from models import create_model, load_weights

    with torch.device("meta"):
        model = create_model(config)
    try:
        load_weights(model, _shapes(path, stamp), refit=True)
    except ConfigError as error:
        return _misfit(path, str(error))
    return None


@lru_cache(maxsize=16)
def _shapes(path: str, stamp: tuple[int, int]) -> dict[str, Tensor]:
    """Returns the tensors of a file without their values."""
    from models import read_weights

    return {key: value.to("meta") for key, value in read_weights(Path(path)).tensors.items()}


def _misfit(path: str, reason: str) -> str:
    remedy = "set the keys of its model, which `python -m trainers.measure` infers as far as weights show them"
    return f"the weights of {path} do not fit: {reason}; {remedy}"
