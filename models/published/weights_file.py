"""Reading of weights files in any wrapping: checkpoints of this trainer, of timm, of the papers' code; safetensors.

No code of a file is run: PyTorch reads tensors and plain values only (`weights_only=True`).
"""

from __future__ import annotations

import hashlib
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config.errors import ConfigError

WRAPPINGS = (
    *("state_dict_ema", "model_ema", "ema_state_dict"),
    *("state_dict", "model_state_dict", "model", "model_state", "net", "weights", "module"),
)
"""Keys under which files hold the weights, in the order in which they are read; averaged weights first, as in timm.

This trainer's own checkpoints with `model_ema` hold the average as `model`."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes of all keys: of DataParallel and averages, of torch.compile, of Lightning."""

MAX_DEPTH = 3
NAMESPACE = "argparse.Namespace"


@dataclass(frozen=True)
class Weights:
    """The tensors of a weights file by name, without wrapping, and the key of the file that held them, if any."""

    tensors: dict[str, Tensor]
    wrapping: str = ""


def read_weights(path: Path, device: torch.device | str = "cpu") -> Weights:
    """Returns the weights of a file. Raises ConfigError that names the file, the reason and the remedy."""
    if not path.is_file():
        text = "is a folder, not a weights file" if path.is_dir() else f"no such file (working directory {Path.cwd()})"
        raise ConfigError(f"{path}: {text}")
    content = _safetensors(path, device) if path.suffix == ".safetensors" else _pickled(path, device)
    try:
        return unwrap(content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def unwrap(content: object) -> Weights:
    """Returns the weights in the content of a file. Raises ValueError if there are none."""
    wrapping: list[str] = []
    while not _is_state_dict(content):
        key = _wrapping_key(content)
        if key is None or len(wrapping) == MAX_DEPTH:
            known = ", ".join(WRAPPINGS)
            raise ValueError(f"holds {_describe(content)}, no state dict; it is read alone or under one of {known}")
        assert isinstance(content, Mapping)
        wrapping.append(key)
        content = content[key]
    assert isinstance(content, Mapping)
    return Weights(_without_prefixes(content), ".".join(wrapping))


def _is_state_dict(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _wrapping_key(content: object) -> str | None:
    """Returns the first key that holds a filled mapping: averages are None or empty in files without them."""
    if not isinstance(content, Mapping):
        return None
    return next((key for key in WRAPPINGS if isinstance(content.get(key), Mapping) and content[key]), None)


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"the keys {', '.join(map(str, list(content)[:5]))}" if content else "nothing"
    return f"a value of type {type(content).__name__}"


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors under the model's own names."""
    found = {re.sub(r"(^|\.)_orig_mod\.", r"\1", key): value for key, value in state.items()}
    while (prefix := next((p for p in PREFIXES if _have_prefix(found, p)), None)) is not None:
        found.pop("n_averaged", None)  # a counter of torch.optim.swa_utils.AveragedModel
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def _have_prefix(state: Mapping[str, Tensor], prefix: str) -> bool:
    return all(key.startswith(prefix) for key in state if key != "n_averaged")


def _safetensors(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device=str(device)))
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: damaged weights ({error})") from error


def _pickled(path: Path, device: torch.device | str) -> Any:
    """Returns the content of a file of torch.save, compared with its SHA-256 if that is stored beside it."""
    sums = path.with_suffix(".sha256")
    if sums.is_file() and _digest(path) not in sums.read_text(errors="replace").split():
        raise ConfigError(f"{path}: damaged checkpoint (its SHA-256 does not match)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files in other versions of pickle's format
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged or foreign file raises anything from OSError to KeyError
        raise ConfigError(f"{path}: {_reason(path, error)}") from None


KEEP_WEIGHTS = (
    "import argparse, sys, torch; torch.serialization.add_safe_globals([argparse.Namespace]); "
    "parts = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "torch.save({key: part for key, part in parts.items() if isinstance(part, dict)}, sys.argv[2])"
)
"""Copies a checkpoint without its arguments. A Namespace is a bag of attributes: PyTorch creates it without a call."""


def _reason(path: Path, error: Exception) -> str:
    """Returns why PyTorch refused a file, with the remedy."""
    try:
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a file of today's torch.save
        refused = re.findall(r"(?i)unsupported (?:global: )?GLOBAL (\S+)", str(error))
    if set(refused) == {NAMESPACE}:
        files = " ".join(shlex.quote(str(one)) for one in (path, path.with_name(f"{path.stem}-weights.pth")))
        text = "holds the arguments of its training (argparse.Namespace), which are not read; copy it without them"
        return f'{text}: python -c "{KEEP_WEIGHTS}" {files}'
    if refused:
        names = ", ".join(sorted(refused)[:3])
        return (
            f"holds Python objects ({names}), which are not read, since reading them can run code of the file; "
            f"ask its author for the state dict alone, or as safetensors"
        )
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    reason = "it was not written by torch.save" if first.startswith("Weights only load failed") else first
    return f"damaged checkpoint ({reason})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
