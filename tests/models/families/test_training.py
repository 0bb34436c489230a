"""Training of every family by `trainers.run`, on digits or on events derived from them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from config.strict_yaml import dump_yaml
from models import registry
from trainers import run

MODELS = sorted(registry.MODELS)
FAMILIES = sorted({name.split("_")[0]: name for name in reversed(MODELS)}.values())
EVENT_MODELS = [name for name in MODELS if registry.MODELS[name].keys.get("in_channels") == 2]
DIGITS = {
    "dataset": "digits", "epochs": 2, "batch_size": 50, "val_batch_size": 300, "lr": 0.01, "smoothing": 0.0,
    "weight_decay": 0.0, "val_fraction": 0.5, "step": 2, "read_step": 2, "img_size": 16, "device": "cpu",
}  # fmt: skip
LOW_THRESHOLDS = {"threshold": 0.5, "attn_threshold": 0.2, "tim_threshold": 0.2}
"""Lower thresholds, because models of this size fire too little at the published ones."""


def learn(folder: Path, keys: dict[str, Any]) -> tuple[list[float], list[dict[str, Any]]]:
    """Trains a config by the command. Returns the loss of each epoch and the rows of the layers after the last."""
    file = folder / "small.yml"
    file.write_text(dump_yaml({**keys, "output": str(folder)}))
    assert run.main(["--config", str(file)]) == 0
    (written,) = folder.glob("*/metrics.csv")
    with written.open() as rows:
        losses = [float(row["loss"]) for row in csv.DictReader(rows)]
    return losses, json.loads((written.parent / "layers.json").read_text())


def small(shrunk: Any, name: str) -> dict[str, Any]:
    given = {key: value for key, value in shrunk(name).items() if key not in ("num_classes", "img_size", "in_channels")}
    lacking = registry.lacking(name, given.get("node_type", "LIFNode"))
    return {key: value for key, value in {**given, **DIGITS, **LOW_THRESHOLDS}.items() if key not in lacking}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_on_digits_with_spikes_in_every_layer(name: str, shrunk: Any, tmp_path: Path) -> None:
    losses, layers = learn(tmp_path, small(shrunk, name))
    assert losses[-1] < losses[0]
    assert [row["name"] for row in layers if row.get("spikes") == 0.0] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EVENT_MODELS)
def test_an_event_model_learns_on_derived_events_with_spikes_in_every_layer(
    name: str, shrunk: Any, tmp_path: Path
) -> None:
    losses, layers = learn(tmp_path, {**small(shrunk, name), "dataset": "digits_dvs", "val_fraction": 0.5})
    assert losses[-1] < losses[0]
    assert [row["name"] for row in layers if row.get("spikes") == 0.0] == []
