"""Errors that the user can fix, and the nearest known name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LISTED_NAMES = 45
"""Longer lists of names are left out if one of them is near."""

MIN_ABBREVIATION = 3
"""Letters of the shortest word that is tried as an abbreviation."""

SYNONYMS = {
    "t": "step", "timesteps": "step", "timestep": "step", "time_step": "step", "time_steps": "step",
    "num_steps": "step", "t_max": "step", "neuron": "node_type", "node": "node_type", "neuron_type": "node_type",
    "attention": "attn_layer", "stem": "embed_layer", "surrogate": "act_function", "surrogate_function": "act_function",
    "act_func": "act_function", "spike_mode": "node_type",
    "dim": "embed_dim", "dims": "embed_dim", "width": "embed_dim", "heads": "num_heads",
    "layer": "depths", "layers": "depths", "depth": "depths", "num_layers": "depths", "n_layer": "depths",
    "input_size": "img_size", "image_size": "img_size", "img_h": "img_size", "img_w": "img_size", "size": "img_size",
    "num_class": "num_classes", "nb_classes": "num_classes", "n_classes": "num_classes", "classes": "num_classes",
    "in_chans": "in_channels", "channels": "in_channels", "qk_scale": "attn_scale", "drop_rate": "mlp_drop",
    "learning_rate": "lr", "blr": "lr", "wd": "weight_decay", "v_threshold": "threshold", "vth": "threshold",
    "v_th": "threshold", "thresh": "threshold", "optimizer": "opt", "scheduler": "sched",
    "label_smoothing": "smoothing", "gpu": "device", "epoch": "epochs", "num_epochs": "epochs", "arch": "model",
    "model_name": "model", "dataset_name": "dataset", "data_path": "data_dir", "data_root": "data_dir",
    "root": "data_dir", "bs": "batch_size", "b": "batch_size", "num_workers": "workers", "out_dir": "output",
    "output_dir": "output", "log_dir": "output", "tet_lamb": "tet", "tet_loss": "tet",
    "max_trials": "trials", "num_trials": "trials", "n_trials": "trials", "num_samples": "trials",
    "fl_blocks": "wavelet_groups", "haar_vth": "attn_threshold",
    "metrics": "objectives", "search_space": "space", "name": "study",
}  # fmt: skip
"""Our keys by the names that other tools give them."""


class ConfigError(ValueError):
    """Invalid input by the user. The text gives location, key, rule, value and remedy."""


class InfeasibleError(ConfigError):
    """A combination of allowed values that cannot be built (a width that no head count divides)."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is most likely meant, or None; case, hyphens and underscores make no difference."""
    by_plain = {_plain(name): name for name in known}
    word = _plain(word)
    synonym = SYNONYMS.get(word, "")
    near = [synonym] if synonym in by_plain else difflib.get_close_matches(word, by_plain, n=1)
    near = near or _abbreviated(word, by_plain)
    return by_plain[near[0]] if len(near) == 1 else None


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _abbreviated(word: str, known: Iterable[str]) -> list[str]:
    """Returns the names of which a word of three letters or more is the beginning, or that of one of their parts."""
    if len(word) < MIN_ABBREVIATION:
        return []
    return [name for name in known if any(part.startswith(word) for part in (name, *name.split("_")))]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean x?` with the nearest known word, or an empty text."""
    near = nearest(word, known)
    return f" Did you mean {near}?" if near else ""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns the sentence for a name that is not registered: the known ones and the nearest."""
    names = sorted(known)
    hint = did_you_mean(str(name), names)
    listed = "" if hint and len(names) > MAX_LISTED_NAMES else f" Known: {', '.join(names)}."
    return f"unknown {kind} (got {name!r}).{listed}{hint}"
