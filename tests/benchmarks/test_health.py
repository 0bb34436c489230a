"""Figures of the health rules over recorded trainings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import health


def net(rates: list[float], accuracy: float, diverged: int | None = None, gradient: float = 1.0) -> dict[str, Any]:
    """Returns a net of one layer of neurons with these rates in its epochs of 60 batches; the first in batches 1, 4.

    The weights before the neurons have this gradient.
    """
    checks = {rate: {"neurons": {"first": [rate, 0.0, 0.0]}, "gradients": {"conv": gradient}} for rate in rates}
    early = [{"batch": batch, **checks[rates[0]]} for batch in (1, 4)]
    return {
        "accuracy": accuracy,
        "chance": 12.0,
        "batches": 60,
        "diverged": diverged,
        "looks": [*early, *({"batch": 60 * (i + 1), **checks[rate]} for i, rate in enumerate(rates))],
        "rates": [{"first": rate} for rate in rates],
        "routes": {"conv": ["<input>"], "first": ["conv"], "<output>": ["first"]},
    }


BORN_SILENT = net([0.0] * 4, 10.0, gradient=1e-9)
BORN_FAINT = net([0.0005] * 4, 10.0)
SILENT_LATER = net([0.1, 0.0, 0.0, 0.0], 15.0)
AT_CHANCE = net([0.1] * 4, 11.0)
RECOVERS = net([0.1, 0.0, 0.0, 0.1], 80.0)
RECOVERS_LATE = net([0.1, 0.0, 0.0, 0.0, 0.1], 80.0)
FLICKERS = net([0.1, 0.0, 0.1, 0.1, 0.0, 0.1], 80.0)
HEALTHY = net([0.1] * 4, 80.0)
POOR = net([0.1] * 4, 20.0)
DIVERGED = net([0.1], 40.0, diverged=40)


@pytest.mark.parametrize(
    ("observed", "end", "failure"),
    [
        (BORN_SILENT, "dead", ("silent", 4)),
        (BORN_FAINT, "dead", ("silent", 120)),
        (SILENT_LATER, "dead", ("silent", 240)),
        (AT_CHANCE, "dead", None),
        (RECOVERS, "healthy", None),
        (RECOVERS_LATE, "healthy", ("silent", 240)),
        (FLICKERS, "healthy", None),
        (HEALTHY, "healthy", None),
        (POOR, "between", None),
        (DIVERGED, "dead", ("diverged", 40)),
    ],
)
def test_nets_are_classified_by_their_end_and_ended_by_the_rules(observed: Any, end: str, failure: Any) -> None:
    assert health.end_of(observed) == end
    assert health.failure_of(observed) == failure


def test_the_figures_are_shares_of_the_dead_and_of_the_healthy(tmp_path: Path) -> None:
    nets = [BORN_SILENT, SILENT_LATER, AT_CHANCE, RECOVERS_LATE, FLICKERS, HEALTHY, POOR, DIVERGED]
    table = tmp_path / "small"
    table.mkdir()
    (table / health.HEALTH).write_bytes(gzip.compress("\n".join(map(json.dumps, nets)).encode()))
    health.main([str(table), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["nets"], found["dead"], found["healthy"], found["between"]) == (8, 4, 3, 1)
    assert found["recall"] == 3 / 4
    assert found["wrong"] == 1 / 3
    assert found["wrong_classes"] == {"silent": 1}
    assert (found["silent_from_the_first_batch"], found["batches"], found["later_batches"]) == (1, 4, 140)
    assert found["share_of_epoch"] == 4 / 60
    assert found["tables"]["small"]["recall"] == 3 / 4


def test_the_patience_is_judged_on_the_table_that_did_not_choose_it() -> None:
    found = health.held_out({"calm": [HEALTHY, BORN_SILENT], "restless": [RECOVERS, RECOVERS_LATE, SILENT_LATER]})
    assert found["tables"]["calm"] == {"patience": 130, "recall": 1.0, "wrong": 0.0}
    assert found["tables"]["restless"] == {"patience": 50, "recall": 1.0, "wrong": 1.0}
    assert (found["recall"], found["wrong"]) == (1.0, 2 / 3)


def test_a_number_that_is_not_finite_survives_json() -> None:
    assert health.short(0.123456) == 0.1235
    assert float(json.loads(json.dumps(health.short(float("inf"))))) == float("inf")
