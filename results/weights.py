"""The weights of a trial as safetensors, from the checkpoint that the search kept of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from config.files import write_atomic
from results.metrics import ResultsError
from results.study import FrontPoint


def newest_checkpoint(folder: Path, point: FrontPoint) -> Path:
    """Returns the last checkpoint of the point's trial, or raises ResultsError that says why there is none."""
    kept = folder / "checkpoints" / point.key
    numbers = {path: path.stem.removeprefix("epoch_") for path in kept.glob("epoch_*.pt")}
    found = sorted((path for path in numbers if numbers[path].isdecimal()), key=lambda path: int(numbers[path]))
    if not found:
        raise ResultsError(
            f"{kept}: there is no checkpoint of trial {point.trial} any more; the search keeps those of running trials "
            f"and of the front. Export it without --checkpoint and train it again, which gives the same weights"
        )
    return found[-1]


def write_weights(checkpoint: Path, path: Path) -> None:
    """Writes the checkpoint's model as safetensors. Raises ResultsError where the checkpoint is damaged."""
    from safetensors.torch import save

    state = _read(checkpoint)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state["model"].items()}
    write_atomic(path, save(tensors, metadata={"checkpoint": checkpoint.stem}))


def _read(checkpoint: Path) -> dict[str, Any]:
    import torch

    try:
        expected = checkpoint.with_suffix(".sha256").read_text(encoding="utf-8").strip()
        with checkpoint.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError("its SHA-256 does not match")
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if not isinstance(state.get("model"), dict):
            raise ValueError("it holds no model")
    except Exception as error:  # a damaged file raises anything from OSError to KeyError
        raise ResultsError(f"{checkpoint}: damaged checkpoint ({error})") from error
    return state
