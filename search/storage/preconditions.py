"""Conditions that a search checks before it opens its study: data, GPU, checkpoint store, and a study to finish."""

from __future__ import annotations

import ctypes
from pathlib import Path

from config import cli
from config.cli import CommandError
from config.errors import ConfigError
from config.uris import redact
from results.folder import check_study
from search.space.schema import Resources
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.datasets import EMBEDDED, DataError
from trainers.optimization.initial_weights import missing_file


def check_data(config: TrainConfig) -> None:
    """Raises CommandError if the data set of a config is missing."""
    if (problem := missing_data(config)) is not None:
        raise CommandError(cli.ENVIRONMENT, problem)


def missing_data(config: TrainConfig) -> str | None:
    """Returns the sentence for a data set that is missing, with the command that gets it, or None."""
    if config.dataset in EMBEDDED:
        return None
    from trainers.data.sources import check_present  # imports torch, which the driver does not need

    try:
        check_present(config)
    except DataError as error:
        return str(error)
    return None


def check_initial_checkpoints(space: Space) -> None:
    """Raises ConfigError if a weights file from which trials start is missing."""
    options = [one.distribution.test_values() for one in space.parameters if one.key == "initial_checkpoint"]
    for path in (space.base.get("initial_checkpoint"), *(path for values in options for path in values)):
        if path and (problem := missing_file(path)) is not None:
            raise ConfigError(f"initial_checkpoint: {problem}")


def check_gpu(need: Resources, config: TrainConfig | None = None) -> None:
    """Raises CommandError if trials ask for a GPU and this machine has none; it also names missing data of `config`."""
    if (problem := missing_gpu(need)) is not None:
        data = None if config is None else missing_data(config)
        end = "" if data is None else f"; {data}"
        raise CommandError(cli.ENVIRONMENT, f"{problem}, and with --dry-run says how long that takes{end}")


def missing_gpu(need: Resources) -> str | None:
    """Returns the sentence for trials that ask for a GPU on a machine without one, or None."""
    if not need.gpu or has_gpu():
        return None
    return f"a trial asks for {need.gpu:g} GPU, and this machine has none; --set resources.gpu=0 trains on the CPU"


def has_gpu() -> bool:
    """Returns whether PyTorch finds a GPU; without a GPU driver it is not imported, which takes seconds."""
    if not has_driver():
        return False
    import torch

    return torch.cuda.device_count() > 0


def has_driver() -> bool:
    """Returns whether a driver of NVIDIA or AMD GPUs is installed."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def check_checkpoint_store(uri: str | None) -> None:
    """Raises CommandError if there is a checkpoint store, and it cannot be written."""
    if uri is None:
        return
    from search.storage.checkpoint_store import CheckpointStore

    try:
        CheckpointStore(uri).check_writable()
    except Exception as error:  # pyarrow raises several kinds
        raise CommandError(cli.ENVIRONMENT, f"storage {redact(uri)}: cannot be written ({error})") from None


def check_started(folder: Path) -> None:
    """Raises ConfigError if the folder holds no study whose trials could be finished."""
    try:
        check_study(folder)
    except ConfigError as error:
        raise ConfigError(f"--finish: {error} It needs a study that has run; leave it out to start one") from None
