from __future__ import annotations

import json

import pytest

from benchmarks import search_baseline


@pytest.mark.slow
def test_the_search_is_not_a_tenth_worse_than_it_was() -> None:
    before = json.loads(search_baseline.BASELINE.read_text())
    now = search_baseline.measure(jobs=2)
    assert now["hypervolume_24"] >= 0.9 * before["hypervolume_24"]
    assert now["hypervolume_50"] >= 0.9 * before["hypervolume_50"]
    assert now["epochs_to_random"] <= 1.1 * before["epochs_to_random"]
