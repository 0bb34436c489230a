from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import meter


def test_the_cost_of_measuring_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "SIZES", {"8x8": (8, 4, 2), "16x16": (16, 4, 2)})
    monkeypatch.setattr(meter, "KEYS", {**meter.KEYS, "embed_dim": 16, "depths": 1})
    meter.main(["--json", str(tmp_path / "found.json"), "--repeats", "2"])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["sizes"].keys() == {"8x8", "16x16"}
    for key in ("train_step_ratio", "evaluation_ratio"):
        low, high = sorted(size[key] for size in found["sizes"].values())
        assert 0.1 < low <= found[key] <= high
