from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import exits, exits_search
from models import create_model
from trainers.config import load, recipe_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "KEYS", (*exits.KEYS, "embed_dim=16", "train_images=128", "step=3"))
    monkeypatch.setattr(exits, "EXIT_RULES", ("confidence", "msprt"))
    monkeypatch.setattr(exits, "ROUNDS", 1)
    monkeypatch.setattr(exits, "SPLITS", 2)
    monkeypatch.setattr(exits, "LARGE", ("embed_dim=16", "num_heads=2", "depths=1"))


@pytest.mark.usefixtures("small")
def test_figures_of_two_short_trainings_are_measured_and_written(tmp_path: Path) -> None:
    arguments = ["--json", str(tmp_path / "found.json"), "--seeds", "1", "--epochs", "1", "--searches", "0"]
    exits.main([*arguments, "--figure", str(tmp_path / "exits.png")])
    found = json.loads((tmp_path / "found.json").read_text())
    details = found["details"]
    assert 0.0 <= found["synops_saved"] < 1.0
    assert found["accuracy_gained"] == details["tet"]["msprt"]["accuracy_gained"]
    assert [len(details[name]["read_outs"]) for name in ("plain", "tet")] == [3, 3]
    saved = list(details["plain"]["msprt"]["synops_saved"].values())
    assert saved == sorted(saved)
    assert details["time"]["plain"]["batch_64"]["speed_up"] > 0
    assert 1.0 < details["time"]["large"]["steps"] < 4.0
    assert (tmp_path / "exits.png").is_file()


@pytest.mark.usefixtures("small")
def test_trained_nets_are_measured_from_their_train_files(tmp_path: Path) -> None:
    config = load(recipe_path("spikformer/digits"), overrides=[*exits.KEYS, "train_images=64"])
    weights = tmp_path / "weights.pt"
    torch.save(create_model(config).state_dict(), weights)
    path = tmp_path / "net.yml"
    path.write_text(yaml.safe_dump({**config.dump(), "initial_checkpoint": str(weights)}))
    exits.main(["--nets", str(path), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["details"]["nets"]["read_outs"]) == 3
    assert found["synops_saved"] == found["details"]["nets"]["msprt"]["synops_saved"]["0.0"]


@pytest.mark.slow
def test_searches_with_and_without_exits_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = exits_search.SPACE.replace("train_images: 320", "train_images: 64")
    monkeypatch.setattr(exits_search, "SPACE", small.replace("trials: 12, epochs: 9", "trials: 2, epochs: 1"))
    found = exits_search.compare_searches(tmp_path, 1)
    assert found["hypervolume_ratio"] >= 0.0
    assert len(found["volumes"]) == 4
