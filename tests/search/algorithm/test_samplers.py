"""Contracts of all samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from search.algorithm import samplers
from search.algorithm.samplers import Observation
from search.algorithm.trial import Suggestion
from search.space.space import Space

NAMES = ["tpe", "nsga2", "nsga3", "gp", "random", "qmc"]


def history(space: Space, count: int) -> list[Observation]:
    """A history in which a larger tau gives fewer spikes and less accuracy, the last one still running."""
    observed: list[Observation] = []
    for number in range(count):
        suggestion = samplers.suggest(space, number, [])
        point = (
            None
            if number == count - 1
            else [90.0 - 10 * suggestion.values["tau"], 0.3 - 0.05 * suggestion.values["tau"]]
        )
        observed.append(Observation(suggestion, point))
    return observed


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_suggests_values_of_the_space(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    suggestion = samplers.suggest(space, 12, history(space, 12))
    assert suggestion.values.keys() == {"tau", "step"}
    assert all(space.keys[key].contains(value) for key, value in suggestion.values.items())
    assert suggestion.parameters.keys() == suggestion.distributions.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_suggestion_depends_on_seed_number_and_history_only(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    observed = history(space, 6)
    first, second = samplers.suggest(space, 6, observed), samplers.suggest(space, 6, observed)
    assert first.values == second.values
    assert samplers.suggest(space, 6, observed, attempt=1).values != first.values


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_trials_differ_from_each_other(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    assert len({samplers.suggest(space, number, []).values["tau"] for number in range(8)}) == 8


def test_tpe_learns_where_the_feasible_points_are(read_space: Callable[..., Space]) -> None:
    space = read_space("seed=3", "sampler.name=tpe")
    observed = []
    for number in range(40):
        suggestion = samplers.suggest(space, number, [])
        tau = suggestion.values["tau"]
        observed.append(Observation(suggestion, [50.0, 0.1], {"accuracy": 1.0 if tau > 2.0 else -1.0}))
    asked = [samplers.suggest(space, 40 + i, observed).values["tau"] for i in range(12)]
    assert sum(tau <= 2.0 for tau in asked) >= 9


def test_given_values_become_a_suggestion(read_space: Callable[..., Space]) -> None:
    space = read_space()
    suggestion = samplers.as_suggestion(space, {"tau": 2.0, "step": 2})
    assert isinstance(suggestion, Suggestion)
    assert suggestion.values == suggestion.parameters == {"tau": 2.0, "step": 2}
    assert set(suggestion.distributions) == {"tau", "step"}


@pytest.mark.parametrize("name", NAMES)
def test_a_suggestion_equals_optunas_for_a_study_of_these_trials(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    observed = [
        replace(one, violations={"accuracy": position - 5.0}) for position, one in enumerate(history(space, 14))
    ]
    for number in (14, 15):
        sampler = samplers.make_sampler(space, number)
        study = optuna.create_study(directions=list(space.objectives.values()), sampler=sampler)
        for one in observed:
            state = TrialState.RUNNING if one.point is None else TrialState.COMPLETE
            study.add_trial(
                optuna.create_trial(
                    state=state,
                    values=one.point,
                    params=one.suggestion.parameters,
                    distributions=one.suggestion.distributions,
                    system_attrs=dict(one.suggestion.sampler_attrs),
                    constraints=dict(one.violations),
                )
            )
        assert samplers.suggest(space, number, observed).values == space.suggest(study.ask())


def test_qmc_covers_the_space_more_evenly_than_chance(read_space: Callable[..., Space]) -> None:
    keys = "space={threshold: {uniform: [1.0, 3.0]}, step: {choice: [1, 2, 3, 4]}}"
    suggested = {}
    for name in ("qmc", "random"):
        space = read_space(f"sampler.name={name}", keys)
        suggested[name] = [samplers.suggest(space, number, []).values for number in range(32)]
    cells = {name: {(int(16 * (v["threshold"] - 1.0)), 0) for v in values} for name, values in suggested.items()}
    assert len(cells["qmc"]) == 32
    assert len(cells["random"]) < 28
    assert [sum(v["step"] == step for v in suggested["qmc"]) for step in (1, 2, 3, 4)] == [8] * 4
    other = read_space("sampler.name=qmc", "seed=5", keys)
    assert samplers.suggest(other, 0, []).values != suggested["qmc"][0]


def test_qmc_samples_the_keys_that_an_option_opens(read_space: Callable[..., Space]) -> None:
    space = read_space(
        "sampler.name=qmc", "space={attn_layer: {choice: {SSA: {attn_scale: {uniform: [0.1, 0.5]}}, QKTA: }}}"
    )
    suggested = [samplers.suggest(space, number, []).values for number in range(16)]
    assert sum("attn_scale" in values for values in suggested) == 8
    assert len({values.get("attn_scale") for values in suggested}) == 9
