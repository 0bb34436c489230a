"""Errors that the user can fix, and the nearest known name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LISTED_NAMES = 40
"""Longer lists of names are left out if one of them is near."""

MIN_ABBREVIATION = 3
"""Letters of the shortest word that is tried as an abbreviation."""

SYNONYMS = {
    "t": "step", "timesteps": "step", "timestep": "step", "time_step": "step", "num_steps": "step", "t_max": "step",
    "neuron": "node_type", "attention": "attn_layer", "stem": "embed_layer", "surrogate": "act_function",
    "dim": "embed_dim", "width": "embed_dim", "heads": "num_heads", "layers": "depths", "depth": "depths",
    "num_layers": "depths", "learning_rate": "lr", "wd": "weight_decay", "v_threshold": "threshold", "vth": "threshold",
    "v_th": "threshold", "optimizer": "opt", "scheduler": "sched", "label_smoothing": "smoothing", "gpu": "device",
    "num_epochs": "epochs", "arch": "model", "max_trials": "trials", "num_trials": "trials", "n_trials": "trials",
    "num_samples": "trials", "metrics": "objectives", "search_space": "space", "name": "study",
}  # fmt: skip
"""Our keys by the names that other tools give them."""


class ConfigError(ValueError):
    """Invalid input by the user. The text gives location, key, rule, value and remedy."""


class InfeasibleError(ConfigError):
    """A combination of allowed values that cannot be built (a width that no head count divides)."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is most likely meant, or None; upper and lower case count as the same."""
    by_lower = {name.lower(): name for name in known}
    synonym = SYNONYMS.get(word.lower(), "")
    near = [synonym] if synonym in by_lower else difflib.get_close_matches(word.lower(), by_lower, n=1)
    near = near or _abbreviated(word.lower(), by_lower)
    return by_lower[near[0]] if len(near) == 1 else None


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
