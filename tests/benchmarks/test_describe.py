"""Figures of a table of learning curves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import describe
from search.simulation.recorded_curves import Curve
from trainers.epoch_metrics import EpochMetrics


def curve(*accuracies: float, rate: float = 0.1, failure: tuple[str, float] | None = None) -> Curve:
    """Returns a curve of one read-out with these accuracies."""
    epochs = []
    for epoch, accuracy in enumerate(accuracies, start=1):
        metrics = {"accuracy": accuracy, "spike_rate": rate, "spikes": 100 * rate, "synops": 1000 * rate}
        epochs.append(EpochMetrics(epoch, metrics, [{**metrics, "read_step": 1, "chance": 12.0}], []))
    return Curve(tuple(epochs), (2.0,) * len(epochs), failure)


@pytest.fixture
def table() -> Any:
    """Three configs that learn, of which the second loses on both axes; one at chance and one that is ended."""
    curves = [
        [curve(20.0, 50.0), curve(22.0, 54.0)],
        [curve(50.0, 40.0, rate=0.2), curve(48.0, 44.0, rate=0.2)],
        [curve(40.0, 80.0, rate=0.3), curve(44.0, 80.0, rate=0.3)],
        [curve(10.0, 11.0, rate=0.01), curve(10.0, 13.0, rate=0.01)],
        [curve(30.0, 90.0, rate=0.01, failure=("silent", 0.5)), curve(30.0, 90.0, rate=0.01)],
    ]
    return SimpleNamespace(
        configs=[{"lr": lr, **({"tau": 2.0} if lr == 1 else {})} for lr in (1, 1, 2, 2, 2)],
        seeds=(42, 43),
        epochs=2,
        space=SimpleNamespace(rung_epochs=lambda: [1, 3], objectives={"accuracy": "maximize", "spikes": "minimize"}),
        num_seeds=lambda index: len(curves[index]),
        curve=lambda index, seed: curves[index][seed],
        curves=curves,
    )


def test_a_table_is_described(table: Any) -> None:
    found = describe.describe(table)
    assert (found["configs"], found["seeds"], found["cpu_s"]) == (5, 2, 4.0)
    assert (found["failed"], found["at_chance"]) == (1 / 10, 1 / 10)
    assert found["accuracy"] == [13.0, 90.0]
    assert found["front"]["spike_rate"] == {"points": 2, "configs": 2, "ends": [[52.0, 0.1], [80.0, 0.3]]}
    assert found["front"].keys() == {"spike_rate", "synops", "spikes"}, "the objectives of its space too"
    assert found["rank_correlation"]["accuracy"].keys() == {1}


def test_noise_is_pooled_over_configs_and_effects_are_shares_of_the_spread(table: Any) -> None:
    found = describe.describe(table)
    assert found["noise"]["accuracy"] == pytest.approx(((8 + 8 + 0) / 3) ** 0.5)
    means = {1: [52.0, 42.0], 2: [80.0]}
    assert describe.effects([{"lr": lr} for lr in (1, 1, 2)], [52.0, 42.0, 80.0])["lr"] == pytest.approx(
        1 - ((52 - 47) ** 2 * 2) / sum((x - 58) ** 2 for group in means.values() for x in group)
    )


def test_one_seed_gives_no_noise(table: Any) -> None:
    for curves in table.curves:
        del curves[1]
    assert describe.describe(table)["noise"]["accuracy"] is None


def test_configs_of_one_seed_say_nothing_about_the_noise(table: Any) -> None:
    del table.curves[2][1]  # the only two seeds that agree
    found = describe.describe(table)
    assert found["repeated"] == 4
    assert found["noise"]["accuracy"] == pytest.approx(8**0.5)
