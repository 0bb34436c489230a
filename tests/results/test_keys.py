from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from config.distributions import Categorical, Distribution, Float
from results import StudyResult
from results.keys import Key, active_keys, axes_of_keys, keys_of

Make = Callable[..., StudyResult]


def test_a_key_that_several_options_open_is_listed_once_for_each(make_study: Make) -> None:
    names = [key.parameter for key in keys_of(make_study([(90.0, 0.1)]))]
    assert names == ["step", "attn_layer", "attn_scale", "attn_layer=SSA.alpha", "attn_layer=SDSA.alpha", "lr"]


def test_parameters_are_named_as_the_search_names_them() -> None:
    from search.space.reader import load

    inner = "{weight_decay: {uniform: [0, 0.1]}}"
    space = load("spaces/quickstart.yml", [f"space.opt={{choice: {{adamw: {inner}, sgd: {inner}, lamb: }}}}"])
    study = StudyResult(
        "s", {"accuracy": "maximize"}, tuple(space.searched_keys()), 9, attrs={"space": dict(space.raw)}
    )
    names = [key.parameter for key in keys_of(study)]
    assert {"opt=adamw.weight_decay", "opt=sgd.weight_decay"} < {parameter.name for parameter in space.parameters}
    assert names == [parameter.name for parameter in space.parameters]
    assert {key.name for key in keys_of(study)} == set(space.searched_keys())


def test_a_key_of_several_ranges_spans_all_of_them(make_study: Make) -> None:
    alpha = next(key for key in axes_of_keys(make_study([(90.0, 0.1)])) if key.name == "alpha")
    assert alpha.range is not None
    assert (alpha.range.low, alpha.range.high) == (1, 8)


def test_a_key_is_active_only_under_its_option(make_study: Make) -> None:
    by_name = {key.parameter: key for key in keys_of(make_study([(90.0, 0.1)]))}
    params = {"attn_layer": "SDSA", "alpha": 3.0, "lr": 1e-3}
    active = [name for name, key in by_name.items() if key.name in params and key.is_open(params)]
    assert active == ["attn_layer", "attn_layer=SDSA.alpha", "lr"]


@pytest.mark.parametrize(
    ("distribution", "value", "position"),
    [
        (Float(1.0, 3.0), 2.0, 0.5),
        (Float(1.0, 100.0, log=True), 10.0, 0.5),
        (Float(1.0, 3.0), 9.0, 1.0),
        (Float(1.0, 100.0, log=True), -1.0, None),
        (Categorical((1, 2, 4)), 2, 0.5),
        (Categorical(([1, 2], [3, 4])), [3, 4], 1.0),
        (Categorical(("a",)), "a", 0.5),
        (Categorical(("a", "b")), "c", None),
        (Float(1.0, 3.0), "learnable", None),
    ],
)
def test_a_value_has_a_position_between_the_ends(
    distribution: Distribution, value: object, position: float | None
) -> None:
    found = Key("x", "x", distribution).position(value)
    assert found == (None if position is None else pytest.approx(position))


def test_without_a_space_the_observed_values_span_the_keys(make_study: Make) -> None:
    study = make_study([(90.0, 0.1)], [(80.0, 0.1), (81.0, 0.2)], searched=["step"])
    study = dataclasses.replace(study, attrs={})
    (key,) = axes_of_keys(study)
    assert key.distribution == Float(1, 2)


def test_active_keys_follow_the_options() -> None:
    space = {
        "depths": {"choice": {"2": {"tau": {"uniform": [1, 2]}}, "4": {"node_type": {"choice": {"PSN": None}}}}},
        "lr": {"uniform": [0, 1]},
    }
    assert active_keys(space, {"depths": 2}) == ["depths", "tau", "lr"]
    assert active_keys(space, {"depths": 4}) == ["depths", "node_type", "lr"]
    assert active_keys(space, {"depths": 6}) == ["depths", "lr"]
