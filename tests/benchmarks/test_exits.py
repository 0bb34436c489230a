from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import exits, exits_search


def test_figures_of_two_short_trainings_are_measured_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "KEYS", (*exits.KEYS, "embed_dim=16", "train_images=128", "step=3"))
    monkeypatch.setattr(exits, "EXIT_RULES", ("confidence",))
    monkeypatch.setattr(exits, "ROUNDS", 1)
    arguments = ["--json", str(tmp_path / "found.json"), "--seeds", "1", "--epochs", "1", "--searches", "0"]
    exits.main(arguments)
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0.0 <= found["synops_saved"] < 1.0
    assert found["accuracy_gained"] == found["details"]["tet"]["confidence"]["accuracy_gained"]
    assert [len(found["details"][name]["read_outs"]) for name in ("plain", "tet")] == [3, 3]
    assert found["details"]["time"]["plain"]["batch_64"]["speed_up"] > 0


@pytest.mark.slow
def test_searches_with_and_without_exits_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = exits_search.SPACE.replace("train_images: 320", "train_images: 64")
    monkeypatch.setattr(exits_search, "SPACE", small.replace("trials: 12, epochs: 9", "trials: 2, epochs: 1"))
    found = exits_search.compare_searches(tmp_path, 1)
    assert found["hypervolume_ratio"] >= 0.0
    assert len(found["volumes"]) == 4
