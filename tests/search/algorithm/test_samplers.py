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
    seen: list[Observation] = []
    for number in range(count):
        draw = samplers.suggest(space, number, [])
        point = None if number == count - 1 else [90.0 - 10 * draw.values["tau"], 0.3 - 0.05 * draw.values["tau"]]
        seen.append(Observation(draw, point))
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_suggests_values_of_the_space(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    draw = samplers.suggest(space, 12, history(space, 12))
    assert draw.values.keys() == {"tau", "step"}
    assert all(space.keys[key].contains(value) for key, value in draw.values.items())
    assert draw.parameters.keys() == draw.distributions.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_suggestion_depends_on_seed_number_and_history_alone(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    seen = history(space, 6)
    first, again = samplers.suggest(space, 6, seen), samplers.suggest(space, 6, seen)
    assert first.values == again.values
    assert samplers.suggest(space, 6, seen, attempt=1).values != first.values


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_trials_differ_from_each_other(name: str, read_space: Callable[..., Space]) -> None:
    space = read_space(f"sampler.name={name}")
    assert len({samplers.suggest(space, number, []).values["tau"] for number in range(8)}) == 8


def test_tpe_learns_where_the_feasible_points_are(read_space: Callable[..., Space]) -> None:
    space = read_space("seed=3")
    seen = []
    for number in range(40):
        draw = samplers.suggest(space, number, [])
        tau = draw.values["tau"]
        seen.append(Observation(draw, [50.0, 0.1], {"accuracy": 1.0 if tau > 2.0 else -1.0}))
    asked = [samplers.suggest(space, 40 + i, seen).values["tau"] for i in range(12)]
    assert sum(tau <= 2.0 for tau in asked) >= 9


def test_known_values_take_the_form_of_a_suggestion(read_space: Callable[..., Space]) -> None:
    space = read_space()
    draw = samplers.as_suggestion(space, {"tau": 2.0, "step": 2})
    assert isinstance(draw, Suggestion)
    assert draw.values == draw.parameters == {"tau": 2.0, "step": 2}
    assert set(draw.distributions) == {"tau", "step"}


@pytest.mark.parametrize("name", NAMES)
def test_a_suggestion_is_what_optuna_draws_from_a_study_of_these_trials(
    name: str, read_space: Callable[..., Space]
) -> None:
    space = read_space(f"sampler.name={name}")
    seen = [replace(one, violations={"accuracy": place - 5.0}) for place, one in enumerate(history(space, 14))]
    for number in (14, 15):
        sampler = samplers.make_sampler(space, number)
        study = optuna.create_study(directions=list(space.objectives.values()), sampler=sampler)
        for one in seen:
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
        assert samplers.suggest(space, number, seen).values == space.suggest(study.ask())


def test_qmc_covers_the_space_more_evenly_than_chance(read_space: Callable[..., Space]) -> None:
    keys = "space={threshold: {uniform: [1.0, 3.0]}, step: {choice: [1, 2, 3, 4]}}"
    drawn = {}
    for name in ("qmc", "random"):
        space = read_space(f"sampler.name={name}", keys)
        drawn[name] = [samplers.suggest(space, number, []).values for number in range(32)]
    cells = {name: {(int(16 * (v["threshold"] - 1.0)), 0) for v in values} for name, values in drawn.items()}
    assert len(cells["qmc"]) == 32
    assert len(cells["random"]) < 28
    assert [sum(v["step"] == step for v in drawn["qmc"]) for step in (1, 2, 3, 4)] == [8] * 4
    other = read_space("sampler.name=qmc", "seed=5", keys)
    assert samplers.suggest(other, 0, []).values != drawn["qmc"][0]


def test_qmc_draws_the_keys_that_an_option_opens(read_space: Callable[..., Space]) -> None:
    space = read_space(
        "sampler.name=qmc", "space={attn_layer: {choice: {SSA: {attn_scale: {uniform: [0.1, 0.5]}}, QKTA: }}}"
    )
    drawn = [samplers.suggest(space, number, []).values for number in range(16)]
    assert sum("attn_scale" in values for values in drawn) == 8
    assert len({values.get("attn_scale") for values in drawn}) == 9
