"""Which job promises most: bounds on metrics that are no objectives count, and so does what is near a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.algorithm.acquisition import Acquisition, Candidate
from search.algorithm.samplers import Suggestion
from search.algorithm.trial import Trial
from search.space.space import Space

Read = Callable[..., Space]
TAUS = [round(1.1 + 0.1 * i, 1) for i in range(20)]


def trained(space: Space, taus: list[float], accuracy: Callable[[float], float]) -> dict[int, Trial]:
    """Trials trained in full whose energy grows with tau."""
    found = {}
    for number, tau in enumerate(taus):
        values: dict[str, Any] = {"tau": tau}
        metrics = {"accuracy": accuracy(tau), "energy_mj": 0.01 * tau**3, "spike_rate": 0.1}
        record = Trial(number, Suggestion(values, {}, {}), values, "complete")
        record.epochs = dict.fromkeys((1, 3, 9), metrics)
        record.read_outs = [metrics]
        found[number] = record
    return found


def options(taus: list[float]) -> list[Candidate]:
    return [Candidate({"tau": tau}) for tau in taus]


def test_what_breaks_a_bound_is_worth_nothing(read_space: Read) -> None:
    keys = (f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    free, bound = read_space(*keys), read_space(*keys, "constraints={energy_mj: {max: 0.05}}")
    seen, left = TAUS[::2], TAUS[1::2]
    chosen = {}
    for name, space in (("free", free), ("bound", bound)):
        records = trained(space, seen, lambda tau: 30.0 + 20.0 * tau)
        chosen[name] = Acquisition(space).select(records, options(left), 0).values["tau"]
    assert 0.01 * chosen["free"] ** 3 > 0.1
    assert 0.01 * chosen["bound"] ** 3 < 0.06


def test_the_best_within_the_bounds_is_what_is_to_be_beaten(read_space: Read) -> None:
    keys = (f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    guide = Acquisition(read_space(*keys, "constraints={energy_mj: {max: 0.05}}"))
    assert guide.bounded_metrics == ["energy_mj"]
    within = guide._within(np.log([[0.01], [0.05], [0.25]]), np.full((3, 1), 0.1))
    assert np.round(within, 2).tolist() == [1.0, 0.5, 0.0]


def test_an_objective_with_a_bound_is_not_foretold_twice(read_space: Read) -> None:
    space = read_space("constraints={accuracy: {min: 40}, spike_rate: {max: 0.2}, params_m: {max: 9}}")
    assert Acquisition(space).bounded_metrics == []


def test_what_is_near_a_recipe_counts_for_more(read_space: Read) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    guide, records = Acquisition(space), trained(space, TAUS[::2], lambda tau: 60.0 + 5.0 * math.sin(99.0 * tau))
    recipe = {"tau": 2.0}
    nearness = guide.similarity([recipe], [{"tau": tau} for tau in (2.0, 2.1, 2.9)])
    assert nearness[0] == 1.0
    assert 0.5 < nearness[1] < 1.0
    assert nearness[2] < 0.01
    plain = guide.select(records, options(TAUS[1::2]), 0).values["tau"]
    believed = guide.select(records, options(TAUS[1::2]), 0, [recipe], odds=50.0).values["tau"]
    assert abs(believed - 2.0) < 0.35 < abs(plain - 2.0)


def test_what_waits_high_up_goes_before_what_is_new_and_promises_somewhat_more(
    read_space: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    records = trained(space, [tau for tau in TAUS if tau != 2.0], lambda tau: 80.0 - 40.0 * abs(tau - 2.0))
    for record in records.values():
        record.state, record.read_outs, record.epochs = "paused", [], {epoch: record.epochs[epoch] for epoch in (1, 3)}
    poor = records[1]
    two = [Candidate(poor.suggestion.values, poor.number, 3), Candidate({"tau": 2.0})]
    assert Acquisition(space).select(records, two, 0).number == poor.number
    monkeypatch.setattr("search.algorithm.acquisition.OPTIMISM_DISCOUNT", {})
    assert Acquisition(space).select(records, two, 0).number == -1


def test_where_nothing_promises_much_who_may_be_on_the_front_goes_first(
    read_space: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(f"space={{tau: {{choice: {TAUS}}}}}", "objectives={accuracy: maximize}", "budget.epochs=9")
    records = trained(space, TAUS[:-1], lambda tau: 80.0 - 20.0 * abs(tau - 2.0))
    unlucky, poor = TAUS.index(2.0), TAUS.index(1.1)
    for number, lost in ((unlucky, 9.0), (poor, 0.0)):
        record = records[number]
        record.state, record.read_outs = "paused", []
        record.epochs = {
            epoch: {**record.epochs[9], "accuracy": record.epochs[9]["accuracy"] - lost} for epoch in (1, 3)
        }
    offered = [Candidate(records[number].suggestion.values, number, 3) for number in (poor, unlucky)] + [
        Candidate({"tau": 3.0})
    ]
    chosen = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("search.algorithm.acquisition.MIN_RELATIVE_GAIN", share)
        chosen[share] = Acquisition(space).select(records, offered, 0).number
    assert chosen[1.0] == unlucky != chosen[0.0]
    monkeypatch.setattr("search.algorithm.acquisition.MIN_FRONT_PROBABILITY", 1.1)
    assert Acquisition(space).select(records, offered, 0).number == chosen[0.0]
