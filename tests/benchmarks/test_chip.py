"""The benchmark of the executor on a net of one epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import chip


def test_a_net_agrees_with_its_graph_and_the_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip, "NETS", {"sdt_dvs": (*chip.NETS["sdt_dvs"], "train_images=128", "step=2")})
    monkeypatch.setattr(chip, "ROUNDS", 1)
    monkeypatch.setattr(chip, "TUNING", {"epochs": 1})
    monkeypatch.setattr(chip, "TUNING_SEEDS", (1, 2))
    path = tmp_path / "figures.json"
    chip.main(["--nets", "sdt_dvs", "--epochs", "1", "--images", "3", "--parts", *chip.PARTS, "--json", str(path)])
    figures = json.loads(path.read_text())
    assert figures["spikes_differ"] == figures["synops_differ"] == 0
    row = figures["details"]["agreement"]["sdt_dvs"]
    assert (row["images"], row["answers_differ"]) == (3, 0)
    assert row["outputs"] > row["spikes"] > 100
    assert figures["details"]["times"]["sdt_dvs"]["additions"] > 1000
    integers = figures["details"]["integers"]["sdt_dvs"]
    assert figures["int8_points_lost"] == integers["accuracy"] - integers["accuracy_int8"]
    assert all(0.0 <= share < 30.0 for share in integers["drift"].values())
    tuned = figures["details"]["fine_tuning"]["sdt_dvs"]
    assert tuned["accuracy"] == integers["accuracy"]
    before, after = max(tuned["accuracy"], tuned["accuracy_further"]), sum(tuned["accuracy_int4"]) / 2
    assert figures["int4_points_lost"] == pytest.approx(before - after)
