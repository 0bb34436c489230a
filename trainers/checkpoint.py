"""Crash-safe checkpoints: the last two and the best, each written under another name, renamed, with its SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from config.files import write_atomic

KEEP = 2
BEST = "best.pt"


def save(folder: Path, epoch: int, state: dict[str, Any]) -> Path:
    """Writes the state after `epoch` finished epochs and deletes all but the newest two checkpoints.

    The state may hold tensors, numbers, text, lists and dicts only, so that it loads with `weights_only=True`.
    """
    path = folder / f"epoch_{epoch:04d}.pt"
    _write(path, state)
    for old in generations(folder)[KEEP:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".sha256").unlink(missing_ok=True)
    return path


def save_best(folder: Path, state: dict[str, Any]) -> Path:
    """Writes the state of the best epoch so far, which replaces the previous best."""
    path = folder / BEST
    _write(path, state)
    return path


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, sums = path.with_suffix(f".{os.getpid()}.tmp"), path.with_suffix(".sha256")
    try:
        _save(_without_shared_storage(state), draft)
        digest = _digest(draft)
        previous = sums.read_text(errors="replace") if sums.exists() and path.exists() else ""
        write_atomic(sums, f"{digest}\n{previous}" if previous else digest)  # after a crash, either file may be there
        os.replace(draft, path)
        if previous:
            write_atomic(sums, digest)
    finally:
        draft.unlink(missing_ok=True)


def _save(state: Any, path: Path) -> None:
    """Saves to a file. Raises OSError if the disk is full, where PyTorch's own error does not name the reason."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(cause.errno, f"{cause.strerror or cause} ({free:.1f} MiB are free)", str(path)) from error


def _without_shared_storage(value: Any) -> Any:
    """Returns the value with copies of tensors that are views: PyTorch saves a view with its whole storage."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return {key: _without_shared_storage(inner) for key, inner in value.items()}
    return [_without_shared_storage(inner) for inner in value] if isinstance(value, list) else value


def load_newest(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Returns the newest undamaged state in the folder, or None. Warns of each damaged one that it skips."""
    paths = generations(folder)
    for path in paths:
        try:
            return load(path, device)
        except ValueError as error:
            is_last = path == paths[-1]
            remedy = (
                "there is none before it, so the training starts from scratch" if is_last else "using the one before it"
            )
            warnings.warn(f"{error}; {remedy}", stacklevel=2)
    return None


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Returns a checkpoint's state. Raises ValueError, naming the file, when it is damaged."""
    try:
        expected = path.with_suffix(".sha256").read_text().split()
    except (OSError, UnicodeDecodeError):
        text = f"no {path.with_suffix('.sha256').name} beside it; every checkpoint of trainers.run has one"
        raise ValueError(f"{path}: damaged checkpoint ({text})") from None
    try:
        if _digest(path) not in expected:
            raise ValueError("its SHA-256 does not match")
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a training's state")
    except Exception as error:  # a damaged file raises anything from OSError to KeyError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged checkpoint ({reason})") from error
    return state


def load_exits(path: Path) -> list[dict[str, Any]]:
    """Returns the exit points that the training of a checkpoint measured; none for other files."""
    try:
        exits: list[dict[str, Any]] = load(path).get("report", {}).get("exits", [])
    except ValueError:
        return []
    return exits


def generations(folder: Path) -> list[Path]:
    """Returns the checkpoints in the folder, newest first."""
    numbers = {path: path.stem.removeprefix("epoch_") for path in folder.glob("epoch_*.pt")}
    return sorted((path for path in numbers if numbers[path].isdecimal()), key=lambda p: int(numbers[p]), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
