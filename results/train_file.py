"""Train file of a read-out: its config, path and command, and its text, flat YAML in groups with plain digits."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from config.step_names import GROUPS

TRAIN_GROUP = "training"
_PLAIN = re.compile(r"[A-Za-z_/][\w./:@+-]*")


def read_out_config(
    config: Mapping[str, Any], read_step: int, exits: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns a trial's config for one read-out or, with `exit_rule` and `exit_threshold`, one exit point.

    Keys that are not set are left out, and so is the exit rule of a trial for its plain read-outs.
    """
    is_early = read_step < int(config.get("step", read_step))
    rule = {"exit_rule": None, "exit_threshold": None} if exits is None else exits
    found = {**config, "read_step": read_step if is_early else None, **rule}
    return {key: value for key, value in found.items() if value is not None}


def path(config: Mapping[str, Any]) -> Path:
    """Returns the path of a single train file in the output folder: `spikformer/cifar10.yml`."""
    family, dataset = (_file_name(str(config.get(key, ""))) for key in ("model", "dataset"))
    return Path(family.split("_")[0] or "_") / f"{dataset}.yml"


def command(paths: Sequence[Path]) -> str:
    """Returns the command that trains one file, or a pair of files."""
    options = ("--config",) if len(paths) == 1 else ("--model-config", "--train-config")
    files = " ".join(f"{option} {shlex.quote(str(path))}" for option, path in zip(options, paths, strict=True))
    return f"python -m trainers.run {files}"


def split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the keys of the model file and those of the train file in the two-file form."""
    train = {key: value for key, value in config.items() if key in GROUPS[TRAIN_GROUP]}
    return {key: value for key, value in config.items() if key not in train}, train


def render(config: Mapping[str, Any], header: Sequence[str]) -> str:
    """Returns the text: the header and the hash of the body as comments, then the groups that have keys."""
    body = "".join(f"\n{_group(name, keys, config)}" for name, keys in _groups(config))
    digest = hashlib.sha256(without_comments(body).encode()).hexdigest()
    lines = [*header, f"sha256 of the lines that are not comments (grep -v '^#'): {digest}"]
    comment = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return f"{comment}{body}"


def ordered(config: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a config in the order of the text."""
    return [key for _, keys in _groups(config) for key in keys]


def without_comments(text: str) -> str:
    """Returns the lines that are not comments; the hash is taken of these."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def scalar(value: Any) -> str:
    """Returns a value as text that YAML 1.1 and 1.2 read back bit by bit: 0.0005, never 5e-4."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0") if np.isfinite(value) else _special(value)
    if isinstance(value, str):
        return value if _is_plain(value) else yaml.safe_dump(value, default_style='"', width=math.inf).rstrip()
    if isinstance(value, list | tuple):
        return f"[{', '.join(scalar(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {scalar(item)}" for key, item in value.items()) + "}"
    return "null" if value is None else str(value)


def _file_name(text: str) -> str:
    """Returns a safe file name: a study may come from elsewhere, and its values must not leave the folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:80] or "_"


def _groups(config: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    listed = {key for keys in GROUPS.values() for key in keys}
    others = sorted(key for key in config if key not in listed)
    groups = {name: [key for key in keys if key in config] for name, keys in GROUPS.items()} | {"other": others}
    return [(name, keys) for name, keys in groups.items() if keys]


def _group(name: str, keys: Sequence[str], config: Mapping[str, Any]) -> str:
    return f"# {name}\n" + "".join(f"{key}: {scalar(config[key])}\n" for key in keys)


def _is_plain(text: str) -> bool:
    """Returns whether every YAML reader takes the word without quotes for this text."""
    if not _PLAIN.fullmatch(text) or text.lower() in {"nan", "inf", "infinity", "null", "y", "n"}:
        return False
    return bool(yaml.safe_load(text) == text)


def _special(value: float) -> str:
    return ".nan" if np.isnan(value) else ".inf" if value > 0 else "-.inf"
