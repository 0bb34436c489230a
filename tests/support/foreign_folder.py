"""A small table from elsewhere, written to a folder: 36 configs of four keys, 4 epochs, accuracy against cost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

KEYS: dict[str, list[Any]] = {
    "width": [8, 16, 32],
    "lr": [0.3, 0.1, 0.03, 1e-2],
    "act": ["relu", "gelu", "silu"],
    "x": [1],
}
CONFIGS = [dict(zip(KEYS, values, strict=True)) for values in itertools.product(*KEYS.values())]
EPOCHS = 4
INFO: dict[str, Any] = {
    "name": "made up (small)",
    "keys": KEYS,
    "objectives": {"accuracy": "maximize", "cost": "minimize"},
    "epochs": EPOCHS,
    "chance": 10.0,
    "source": "a test",
}


def arrays() -> dict[str, Any]:
    """Returns the arrays of the table: accuracy by epoch, cost of the whole training, and seconds of an epoch."""
    ends = np.array([50.0 + one["width"] + 20 * one["lr"] + 2 * len(one["act"]) % 3 for one in CONFIGS])
    costs = np.array([one["width"] ** 2 * (1.0 + one["lr"]) for one in CONFIGS])
    risen = 1.0 - 0.5 ** np.arange(1, EPOCHS + 1)
    return {"accuracy": ends[:, None] * risen, "cost": costs, "epoch_s": costs / 100.0}


def write_table(folder: Path, more: Mapping[str, Any] | None = None, **info: Any) -> Path:
    """Writes the table with further or other arrays, and other keys of table.json; None leaves an array or key out."""
    folder.mkdir(exist_ok=True, parents=True)
    described = {key: value for key, value in {**INFO, **info}.items() if value is not None}
    (folder / "table.json").write_text(json.dumps(described))
    values = {name: array for name, array in {**arrays(), **(more or {})}.items() if array is not None}
    np.savez_compressed(folder / "curves.npz", **values)
    return folder
