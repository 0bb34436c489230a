from __future__ import annotations

import pytest

from benchmarks import tet


def test_gains_are_differences_within_a_seed() -> None:
    accuracies = {"plain": [[50.0, 80.0], [60.0, 90.0]], "tet 0": [[70.0, 81.0], [82.0, 89.0]]}
    assert tet.means(accuracies)["plain"][0] == {"mean": 55.0, "standard_error": pytest.approx(5.0)}
    (first, last) = tet.gains(accuracies)["tet 0"]
    assert first == {"mean": 21.0, "standard_error": pytest.approx(1.0)}
    assert last == {"mean": 0.0, "standard_error": pytest.approx(1.0)}


def test_the_methods_differ_in_their_keys_alone() -> None:
    plain, other = (tet.configs(tet.METHODS[name], 2, 3) for name in ("plain", "tet 0.05 + ema"))
    assert [config.seed for config in plain] == [0, 1]
    changed = {"tet": None, "model_ema": False}
    assert [config.model_copy(update=changed) for config in other] == plain


def test_a_method_is_trained_for_all_its_seeds() -> None:
    members = [config.model_copy(update={"embed_dim": 16}) for config in tet.configs({"tet": 0.0}, 2, 1)]
    last = tet.trained(members)
    assert [epoch.epoch for epoch in last] == [1, 1]
    assert all(len(epoch.read_outs) == 4 for epoch in last)
