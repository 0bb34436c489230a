"""Weights of a trial as safetensors, from its checkpoint in the study's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from config.files import write_atomic
from results.metrics import ResultsError
from results.study import FrontPoint


def latest_checkpoint(folder: Path, point: FrontPoint) -> Path:
    """Returns the last checkpoint of the point's trial. Raises ResultsError if it was deleted."""
    checkpoints = folder / "checkpoints" / point.key
    epochs = {path: path.stem.removeprefix("epoch_") for path in checkpoints.glob("epoch_*.pt")}
    complete = [path for path, epoch in epochs.items() if epoch.isdecimal()]
    if not complete:
        raise ResultsError(
            f"{checkpoints}: there is no checkpoint of trial {point.trial} any more; the search keeps those of running "
            f"trials and of the front. Export it without --checkpoint and retrain it, which gives the same weights"
        )
    return max(complete, key=lambda path: int(epochs[path]))


def write_weights(checkpoint: Path, path: Path) -> None:
    """Writes the checkpoint's model as safetensors. Raises ResultsError if the checkpoint is damaged."""
    from safetensors.torch import save

    state = _read(checkpoint)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state["model"].items()}
    write_atomic(path, save(tensors, metadata={"checkpoint": checkpoint.stem}))


def _read(checkpoint: Path) -> dict[str, Any]:
    import torch

    try:
        expected = checkpoint.with_suffix(".sha256").read_text(encoding="utf-8").split()
        with checkpoint.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() not in expected:
                raise ValueError("its SHA-256 does not match")
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if not isinstance(state.get("model"), dict):
            raise ValueError("it holds no model")
    except Exception as error:  # a damaged file raises errors of many types, from OSError to KeyError
        raise ResultsError(f"{checkpoint}: damaged checkpoint ({error})") from error
    return state
